"""A copy of the shop in a folder of its own, to be edited, broken and mended while a server runs on it."""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VIEWS = "testproject/shop/views/plain.py"
QUERIES = "testproject/shop/views/queries.py"
SHOP = "testproject/shop/__init__.py"
URLS = "testproject/urls.py"
SETTINGS = "testproject/settings.py"

_clock = count(1)


class Project:
    """Files that a test may change; ``restore`` brings everything back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._originals: dict[Path, str | None] = {}

    def path(self, name: str) -> Path:
        """A file of the project."""
        return self.folder / name

    def write(self, name: str, text: str) -> None:
        """Replace a file, or make one."""
        path = self.path(name)
        self._originals.setdefault(path, path.read_text() if path.exists() else None)
        path.write_text(text)
        _touch(path)

    def append(self, name: str, text: str) -> None:
        """Add lines to a file."""
        self.write(name, f"{self.path(name).read_text()}\n{text}\n")

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace one piece of a file's text, which must be there."""
        text = self.path(name).read_text()
        assert old in text, f"{old!r} is not in {name}"
        self.write(name, text.replace(old, new))

    def add_view(self, code: str, name: str, route: str) -> None:
        """Add a view's code, and a path that leads to it."""
        self.append(VIEWS, code)
        self.append(URLS, f"from testproject.shop.views.plain import {name}\nurlpatterns += [path({route!r}, {name})]")

    def settings(self, **options: object) -> None:
        """Set keys of ``settings.DJWORKER``."""
        self.append(SETTINGS, f"DJWORKER = {options!r}")

    def set_version(self, number: int) -> None:
        """New code: what /debug/pid answers with."""
        self.append(SHOP, f"VERSION = {number}")

    def break_syntax(self, name: str = VIEWS) -> None:
        """Make a module that does not compile."""
        self.append(name, "def broken(:")

    def restore(self) -> None:
        """Bring every changed file back."""
        for path, text in self._originals.items():
            if text is None:
                path.unlink(missing_ok=True)
            else:
                path.write_text(text)
                _touch(path)
        self._originals.clear()


def _touch(path: Path) -> None:
    """Give it a time that it never had: a compiled file is known by seconds and size, and tests are quicker than that."""
    seconds = path.stat().st_mtime + 10 * next(_clock)
    os.utime(path, (seconds, seconds))


def make_template(folder: Path, *, whole: bool = False) -> None:
    """Copy the shop, add the drills, and make its database: once for all tests.

    Without Django's admin, and the client of the supplier, a process that loads the shop has a sixth less to do, and that
    is what most tests wait for.
    """
    ignored = shutil.ignore_patterns("staticfiles", "media", "*.sqlite3*")
    shutil.copytree(ROOT / "testproject", folder / "testproject", ignore=ignored)
    (folder / "testproject" / "staticfiles").mkdir()
    shutil.copy2(ROOT / "manage.py", folder)
    for name in ("drills.py", "first_lines.py", "fork_views.py"):
        shutil.copy2(Path(__file__).with_name(name), folder / "testproject")
    if not whole:
        _leave_admin_out(Project(folder))
        _put_supplier_off(Project(folder))
    with (folder / URLS).open("a") as urls:
        urls.write(
            '\nurlpatterns += [path("drill/", include("testproject.drills"))]\n'
            'urlpatterns += [path("fork/", include("testproject.fork_views"))]\n'
        )
    with (folder / SETTINGS).open("a") as settings:
        settings.write('\nMIDDLEWARE.insert(0, "testproject.drills.note")\n')
    (folder / "begun").mkdir(mode=0o777)
    (folder / "begun").chmod(0o777)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DJWORKER_")}
    environ.pop("DATABASE_URL", None)
    migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, cwd=folder, env=environ, check=True, timeout=120)
    compileall.compile_dir(folder, quiet=1)  # else each process of each test would


def _leave_admin_out(project: Project) -> None:
    project.edit(SETTINGS, '    "django.contrib.admin",\n', "")
    project.edit(URLS, '    path("admin/", admin.site.urls),\n', "")
    project.edit(URLS, "from django.contrib import admin\n", "")
    project.edit("testproject/shop/templates/shop/base.html", "{% url 'admin:index' %}", "/")


def _put_supplier_off(project: Project) -> None:
    """His client, which loads all of urllib3, is loaded by the one view that asks him."""
    line = "from testproject.shop.supplier import SupplierError, delivery\n"
    project.edit(QUERIES, line, "")
    project.edit(QUERIES, "    ms = int(number(", f"    {line}    ms = int(number(")


def copy_template(template: Path, folder: Path, *, own_djworker: bool = False) -> Project:
    """A project for one test; with a djworker of its own where that is to be broken."""
    shutil.copytree(template, folder, dirs_exist_ok=True)
    if own_djworker:
        shutil.copytree(ROOT / "djworker", folder / "djworker")
    return Project(folder)

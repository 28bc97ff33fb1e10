"""Blocks of settings: each is appended to a fresh project's, which must pass the check, and the log says what the page says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs import shop
from tests.docs.blocks import Block, all_blocks, claims, find
from tests.processes.server import environment

#: What the log says of a database at boot.
ENGINE_LINE = re.compile(r"^database '\w+': .*$", re.MULTILINE)
#: Each costs the boot of a project; the others are judged without.
LOADED = ("DATABASES", "LOGGING", "STORAGES", "MIDDLEWARE", "CACHES")


#: The rest of the project's settings. Where a page says nothing of its database, it is PostgreSQL; it need not be there.
BASE = """
DEBUG = False
ALLOWED_HOSTS = ["*"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "shop", "HOST": "127.0.0.1", "PORT": 9}}
DATABASES["default"]["OPTIONS"] = {}
"""
LAST = 'INSTALLED_APPS = list(dict.fromkeys([*INSTALLED_APPS, "djworker"]))'


@cache
def names_set(text: str) -> frozenset[str]:
    """The settings that a block assigns; empty where it is something else than settings."""
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return frozenset()
    found = {name for statement in body for name in _targets(statement)}
    return frozenset(found) if all(name.isupper() for name in found) else frozenset()


def _targets(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.Assign(targets=[target]) | ast.AugAssign(target=target):
            while isinstance(target, ast.Subscript | ast.Attribute):
                target = target.value
            yield getattr(target, "id", "not a name")
        case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Call()):
            return
        case _:
            yield "no settings"


def is_settings(block: Block) -> bool:
    """Whether a block is one of settings, or what the log says of them: this module runs it."""
    settings = block.language == "python" and bool(names_set(block.text))
    return settings or (not block.language and bool(ENGINE_LINE.fullmatch(block.text.strip())))


def pages() -> dict[str, list[Block]]:
    """The blocks of settings of each page, in their order; without those that another test serves a site with."""
    found: dict[str, list[Block]] = {}
    elsewhere = {find(page, text) for page, text, _ in claims()}
    for block in filter(is_settings, all_blocks()):
        if block not in elsewhere:
            found.setdefault(block.page, []).append(block)
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What startproject makes, with djworker."""
    folder = tmp_path_factory.mktemp("project")
    shop.start_project(folder)
    shop.append(folder / "shop" / "settings.py", BASE)
    return folder


def check(project: Path, settings: str, *words: str) -> str:
    """Have djworker read the settings, or load the whole project with them; all that it says."""
    (project / "shop" / "page.py").write_text(f"from shop.settings import *\n\n{settings}\n{LAST}\n")
    command = [sys.executable, "-m", "djworker", "--settings", "shop.page", *words]
    done = subprocess.run(command, cwd=project, env=environment({}), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{settings}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.parametrize("page", sorted(pages()))
def test_the_settings_of_a_page_are_fit_to_serve(project: Path, page: str) -> None:
    """The blocks follow each other, as a reader would add them, and a line of the log follows its settings."""
    settings, said = "", ""
    for block in pages()[page]:
        settings += block.text if block.language else ""
        if block.language and names_set(block.text).intersection(LOADED):
            said = check(project, settings, "--check", "--probe", "off")
        elif block.language:
            check(project, settings, "--print-config")
        else:
            said = said or check(project, settings, "--check", "--probe", "off")
            assert block.text.strip() in said, said

"""Commands of README, tutorial and how-tos, typed in a fresh project in the order in which they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import shop
from tests.docs.blocks import ROOT, Block, runs
from tests.docs.machine import PATH, Machine, Process
from tests.processes import procfs, server

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has a machine of its own")
HERE = "/srv/fresh"
#: The test run's own programs come first; nothing is fetched, so what ``pip`` is asked for has to be there.
ENVIRON = {
    "PATH": f"{Path(sys.executable).parent}:{PATH}",
    "PIP_NO_INDEX": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
    "HOME": HERE,
}
SERVED = "127.0.0.2:8000"
#: As Celery's documentation has it for Django, with a broker in memory.
CELERY = """
import os
import sys

from celery import Celery
from celery.signals import worker_ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
app = Celery("shop", broker="memory://")


@worker_ready.connect
def tell(**_kwargs):
    from django.db import connection
    print(f"tasks run on {type(connection._connections[connection._alias]).__module__}", file=sys.stderr, flush=True)
"""


def commands(block: Block) -> list[str]:
    """The lines of a block as they are typed: without prompt and comment."""
    lines = [re.sub(r"\s+#.*$", "", line.removeprefix("$ ")).strip() for line in block.text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def fresh(machine: Machine) -> Iterator[Path]:
    """A folder with what ``django-admin startproject shop .`` makes, and the one line that the documents ask for."""
    folder = machine.path(HERE)
    shop.start_project(folder)
    shop.append(folder / "shop" / "settings.py", 'INSTALLED_APPS += ["djworker"]')
    return folder


def said(machine: Machine, line: str, **environ: str) -> str:
    """Type one command, which must end well."""
    return machine.run("sh", "-c", line, cwd=HERE, environ={**ENVIRON, **environ})


def served_by(machine: Machine, line: str) -> object:
    return machine.running("sh", "-c", f"exec {line}", cwd=HERE, environ=ENVIRON)


@needs_root
@runs("README.md", "djworker shop.wsgi --check", "kill -HUP", "mold gen 7", "djworker shop.wsgi -b 0.0.0.0:8000 -w 4\n")
def test_the_commands_of_the_front_page_work(machine: Machine, fresh: Path, blocks: tuple[Block, ...]) -> None:
    check, show, serve = commands(blocks[0])
    assert "is fit to serve" in said(machine, check)
    assert re.search(r"^workers\b", said(machine, show), re.MULTILINE)
    with served_by(machine, serve) as process:
        look(machine)
        titles = {re.sub(r"\d+", "N", line) for line in titles_below(process)}
        assert {re.sub(r"\d+", "N", line) for line in blocks[2].text.splitlines()} <= titles
        reload, more, end = commands(blocks[1])
        said(machine, reload, ARBITER=str(process.pid))
        process.until_said("generation 2 serves")
        said(machine, more, ARBITER=str(process.pid))
        process.until_said("workers=5")
        said(machine, end, ARBITER=str(process.pid))
        assert process.wait() == 0
    assert commands(blocks[3]) == [serve]


@needs_root
@runs("tutorial/from-gunicorn.md", "pip install", "--check", "-b 0.0.0.0:8000", "import-gunicorn")
def test_the_tutorial_can_be_followed(machine: Machine, fresh: Path, blocks: tuple[Block, ...]) -> None:
    (install,), (check,), (serve,), (convert,) = map(commands, blocks)
    said(machine, install)
    assert "is fit to serve" in said(machine, check)
    with served_by(machine, serve):
        look(machine)
    (fresh / "gunicorn.conf.py").write_text('workers = 3\nbind = "unix:/run/shop.sock"\n')
    found = said(machine, convert)
    (fresh / "gunicorn.conf.py").unlink()
    assert re.search(r"WORKERS.*3", found)
    assert "unix:/run/shop.sock" in found


@needs_root
@runs("howto/without-runworkers.md", "celery -A shop", "preload_app = True", '"ENGINE": "djworker')
def test_the_engine_works_under_other_servers(machine: Machine, fresh: Path, blocks: tuple[Block, ...]) -> None:
    celery, gunicorn = commands(blocks[0])
    (fresh / "shop" / "celery.py").write_text(CELERY)
    (fresh / "shop" / "__init__.py").write_text("from shop.celery import app\n")
    settings = (fresh / "shop" / "settings.py").read_text()
    shop.append(fresh / "shop" / "settings.py", blocks[2].text)
    with served_by(machine, celery) as process:
        process.until_said("tasks run on djworker.db.backends.postgresql.base")
    for config in ("", blocks[1].text):
        (fresh / "gunicorn.conf.py").write_text(config)
        with served_by(machine, f"{gunicorn} --no-control-socket"):
            look(machine, "127.0.0.1:8000")
    for name in ("gunicorn.conf.py", "shop/celery.py"):
        (fresh / name).unlink()
    (fresh / "shop" / "__init__.py").write_text("")
    (fresh / "shop" / "settings.py").write_text(settings)


def look(machine: Machine, address: str = SERVED) -> None:
    """The admin's login page, the only page that a new project has in production."""
    machine.until_answered(address, "/admin/login/", host="localhost")


def titles_below(process: Process) -> set[str]:
    """What ``ps`` shows of the arbiter and its children."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return {procfs.title(int(pid)) for pid in (process.pid, *children)}


@runs("README.md", "make run")
def test_the_shop_can_be_made(blocks: tuple[Block]) -> None:
    check_make(blocks[0])


@runs("development.md", "make run  ", "pytest tests/unit/log")
def test_the_first_steps_of_development_are_there(blocks: tuple[Block, Block]) -> None:
    check_make(blocks[0])
    tests, *made = commands(blocks[1])
    words = tests.replace(".venv/bin/python", sys.executable, 1).split()
    subprocess.run([*words, "--collect-only", "-q"], cwd=ROOT, check=True, capture_output=True, timeout=60)
    for line in made:
        check_make(Block("", 0, "sh", line))


@runs("CONTRIBUTING.md", "make test-quick")
def test_a_contributor_can_make_what_is_named(blocks: tuple[Block]) -> None:
    check_make(blocks[0])


def check_make(block: Block) -> None:
    """What is to be made is there to be made. (To make it is to run these tests, or to install.)."""
    for line in commands(block):
        assert line.startswith("make ")
        subprocess.run([*shlex.split(line), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


@runs("explanation/benchmarks.md", "make bench", "tests.benchmarks.instructions", "tests.benchmarks.drivers")
def test_the_benchmarks_take_the_options_that_are_shown(blocks: tuple[Block, Block, Block]) -> None:
    for line in (line for block in blocks for line in commands(block)):
        if line.startswith("make"):
            check_make(Block("", 0, "sh", line))
        else:
            program = line.replace("python", sys.executable, 1)
            subprocess.run([*program.split(), "--help"], cwd=ROOT, check=True, capture_output=True, timeout=60)


@runs("howto/mysqlclient.md", "pip install")
def test_what_mysqlclient_needs_is_what_the_tests_install(blocks: tuple[Block]) -> None:
    apt, pip = commands(blocks[0])
    known = (ROOT / ".ci" / "packages").read_text()
    assert [name for name in apt.removeprefix("apt install ").split() if name not in known] == []
    check_extra(pip)


@runs("howto/psycopg.md", "pip install")
def test_psycopg_is_an_extra_that_is_there(blocks: tuple[Block]) -> None:
    check_extra(*commands(blocks[0]))


@runs("howto/psycopg2.md", "pip install")
def test_psycopg2_is_an_extra_that_is_there(blocks: tuple[Block]) -> None:
    check_extra(*commands(blocks[0]))


@runs("howto/pymysql.md", "pip install", "install_as_MySQLdb")
def test_pymysql_serves_djangos_commands_too(tmp_path: Path, blocks: tuple[Block, Block]) -> None:
    check_extra(*commands(blocks[0]))
    shop.start_project(tmp_path)
    shop.append(tmp_path / "shop" / "settings.py", blocks[1].text)
    shop.append(tmp_path / "shop" / "settings.py", 'DATABASES["default"]["ENGINE"] = "django.db.backends.mysql"')
    ask = "from django.db import connection; print(connection.Database.__name__)"
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", ask]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.split()[-1] == "pymysql"


def check_extra(line: str) -> None:
    """What ``pip`` would do: all of it is installed here, and an extra that is not declared gets a warning."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    words = line.replace("'", "").split()[1:]
    done = subprocess.run([*pip, *words, "--no-index", "--dry-run"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "does not provide the extra" not in done.stdout + done.stderr


def test_exit_codes_are_those_of_the_page(tmp_path: Path) -> None:
    shop.start_project(tmp_path)
    shop.append(tmp_path / "shop" / "settings.py", 'INSTALLED_APPS += ["djworker"]')
    page = (ROOT / "docs" / "reference" / "signals.md").read_text()
    listed = re.findall(r"^\| (\d) \| (.*) \|$", page, re.MULTILINE)
    assert [code for code, _ in listed] == ["0", "1", "2", "3"]
    wrong = {
        1: "manage.py runworkers --settings shop.nothing",
        2: "-m djworker shop.wsgi -w many",
        3: "-m djworker shop.nothing",
    }
    for code, words in wrong.items():
        done = subprocess.run(
            [sys.executable, *words.split()],
            cwd=tmp_path,
            env=server.environment({}),
            check=False,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == code, done.stderr.decode()

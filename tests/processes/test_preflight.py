"""What a visitor would find out is said before: each warning has an id, a remedy, and one way to be silenced."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from djworker.conf.problems import CATALOGUE
from tests.processes.project import SETTINGS, Project
from tests.processes.server import MANAGE, Server, command, environment
from tests.processes.test_listening import open_to_everybody

#: As most projects start it.
PROGRAM = MANAGE
PREFLIGHT = [number for number in CATALOGUE if number.startswith("W2")]
#: A limit of descriptors that the usual options do not fit into.
FEW = ("sh", "-c", 'ulimit -n 1024 && exec "$@"', "sh")
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
MIGRATION = """
from django.db import migrations

class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
"""
MANIFEST = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
#: Everything at once. DEBUG excludes two others, and an empty DATABASES two more: those come in a second run.
SPOILT = """
SECRET_KEY = "django-insecure-x"
ALLOWED_HOSTS = []
STORAGES["staticfiles"]["BACKEND"] = "{manifest}"
STATIC_ROOT = "/nonexistent"
DJWORKER = {{"BACKLOG": 65535}}
SILENCED_SYSTEM_CHECKS = {silenced}
"""
BARE = "DEBUG = True\nDATABASES = {}"


def check(project: Project, *prefix: str, **options: object) -> dict[str, str]:
    """The ids that ``--check`` tells of, with their lines."""
    done = subprocess.run(
        [*FEW, *prefix, *command({"workers": 1, "bind": "127.0.0.1:0", **options}, "--check")],
        cwd=project.folder,
        env=environment({}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    return {event["id"].removeprefix("djworker."): event["message"] for event in events if event["event"] == "check"}


def spoil(project: Project, silenced: list[str]) -> None:
    project.append(SETTINGS, SPOILT.format(manifest=MANIFEST, silenced=silenced))
    project.write("testproject/shop/migrations/0002_later.py", MIGRATION)


def test_what_is_wrong_is_told_before_a_visitor_finds_out(project: Project, scratch: Path) -> None:
    spoil(project, [])
    project.path("db.sqlite3").chmod(0o644)
    root = os.geteuid() == 0
    found = check(project, *open_to_everybody(scratch), user="nobody") if root else check(project)
    project.append(SETTINGS, BARE)
    found |= check(project)
    possible = {"W205": root, "W208": SOMAXCONN.exists() and int(SOMAXCONN.read_text()) < 65_535}
    assert found.keys() == {number for number in PREFLIGHT if possible.get(number, True)}
    for number, line in found.items():
        assert f"SILENCED_SYSTEM_CHECKS = ['djworker.{number}']" in line
    assert "shop.0002_later: run manage.py migrate" in found["W204"]


def test_what_is_meant_to_be_so_is_silenced_by_its_id(project: Project) -> None:
    spoil(project, [f"djworker.{number}" for number in PREFLIGHT])
    assert check(project) == {}


@pytest.fixture
def silent_address() -> Iterator[tuple[str, int]]:
    """Something accepts there, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()


def test_a_database_that_never_answers_holds_up_no_boot(server: Server, silent_address: tuple[str, int]) -> None:
    """Its migrations are asked for beside the workers, and whoever stops the server does not wait for that."""
    host, port = silent_address
    server.start(workers=1, environ={"DATABASE_URL": f"postgres://app:x@{host}:{port}/shop"}, probe="off")
    assert server.get("/raw").status == 200
    assert not server.events("check", id="djworker.W204")


@pytest.mark.parametrize("preload", ["on", "off"])
def test_migrations_that_are_lacking_are_told_at_boot(server: Server, preload: str) -> None:
    server.project.write("testproject/shop/migrations/0002_later.py", MIGRATION)
    server.start(workers=1, preload_mode=preload)
    assert server.wait_for("check", id="djworker.W204")["level"] == "warning"

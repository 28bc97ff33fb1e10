"""The answers of real packages on our engine are those on Django's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import django
import pytest

from tests.db.ecosystem.packages import PACKAGES
from tests.db.lease.site import DRIVERS
from tests.db.servers import DatabaseServer

ROOT = Path(__file__).resolve().parents[3]
SIDES = ("django", "transaction", "request")
#: Seconds for one side, from its start.
LIMIT = 240

CASES = [
    (package.name, driver, lease)
    for package in PACKAGES
    for driver in package.drivers
    for lease in SIDES[1:]
    if package.version
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def start(project: str, side: str, driver: str, server: DatabaseServer, database: str) -> subprocess.Popen[str]:
    """Begin one side."""
    login = {"USER": server.user, "PASSWORD": server.password, "HOST": server.host, "PORT": str(server.port)}
    spec = {"driver": driver, "database": {"NAME": database, **login}}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.db.ecosystem.side", project, side],
        cwd=ROOT,
        env={**os.environ, "ECOSYSTEM": json.dumps(spec)},
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("ECOSYSTEM_SHOW") else subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> str:
    """What it wrote."""
    try:
        out, err = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"not within {LIMIT} s:\n{err}") from None
    assert process.returncode == 0, err
    return out


class Projects:
    """The answers of each project and driver, run once."""

    def __init__(self, server: Callable[[str], DatabaseServer]) -> None:
        self.server = server
        self.answers = cache(self._answers)

    def _answers(self, project: str, driver: str) -> dict[str, Any]:
        dialect = DRIVERS[driver].dialect
        server = self.server({"postgres": "postgres", "mysql": "mariadb"}[dialect])
        names = {side: f"eco_{project}_{driver}_{side}" for side in SIDES}
        try:
            first = names["django"]
            server.create_database(first)
            end(start(project, "prepare", driver, server, first))
            for side in SIDES[1:]:
                if dialect == "postgres":
                    server.execute(f"CREATE DATABASE {names[side]} TEMPLATE {first} OWNER {server.user}")
                else:
                    server.create_database(names[side])
                    end(start(project, "prepare", driver, server, names[side]))
            running = {side: start(project, side, driver, server, names[side]) for side in SIDES}
            answers = {side: json.loads(end(process)) for side, process in running.items()}
            if folder := os.environ.get("ECOSYSTEM_KEEP"):
                Path(folder, f"{project}-{driver}.json").write_text(json.dumps(answers, indent=1))
            return answers
        finally:
            for name in names.values():
                server.drop_database(name)


@pytest.fixture(scope="session")
def projects(request: pytest.FixtureRequest) -> Projects:
    """For all tests of this process."""
    return Projects(request.getfixturevalue)


def test_every_package_is_here_with_the_oldest_django() -> None:
    """With a newer one some may have no release yet: the page of the documentation says which."""
    if django.VERSION < (6, 0) and sys.version_info < (3, 12):
        assert [package.name for package in PACKAGES if not package.version] == []


@pytest.mark.parametrize("package,driver,lease", CASES, ids=map("-".join, CASES))
def test_a_package_finds_with_us_what_it_finds_with_django(
    projects: Projects, package: str, driver: str, lease: str
) -> None:
    project = next(known.project for known in PACKAGES if known.name == package)
    answers = projects.answers(project, driver)
    ours, stock = answers[lease].get(package), answers["django"].get(package)
    assert stock, "it was not run at all"
    for visit, expected in stock.items():
        assert ours[visit] == expected, f"{visit}: ours {ours[visit]}, Django's {expected}"

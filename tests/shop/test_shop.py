"""The shop's own tests pass, without djworker: what other tests find broken is then ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.db.servers import DatabaseServer

ROOT = Path(__file__).resolve().parents[2]


def manage(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `manage.py`, with warnings as errors and without the log lines of the refusals that are tested."""
    return subprocess.run(
        [sys.executable, "-W", "error", "manage.py", *words],
        cwd=ROOT,
        env={**os.environ, "DJANGO_LOG_LEVEL": "CRITICAL", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def run_shop_tests(url: str) -> None:
    """Run the shop's tests on this database. Its user may create a database beside it, for the tests."""
    done = manage("test", "testproject", "--noinput", "--shuffle", DATABASE_URL=url)
    assert done.returncode == 0, done.stdout


def test_the_shop_passes_on_sqlite(tmp_path: Path) -> None:
    run_shop_tests(f"sqlite:///{tmp_path}/db.sqlite3")


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_on_a_server(kind: str, request: pytest.FixtureRequest) -> None:
    server: DatabaseServer = request.getfixturevalue(kind)
    run_shop_tests(server.url(request.getfixturevalue(f"{kind}_db")))


def test_no_migration_is_missing(tmp_path: Path) -> None:
    done = manage("makemigrations", "--check", "--dry-run", DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3")
    assert done.returncode == 0, done.stdout


def test_deployment_checks_have_no_error(tmp_path: Path) -> None:
    done = manage("check", "--deploy", "--fail-level", "ERROR", DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3")
    assert done.returncode == 0, done.stdout

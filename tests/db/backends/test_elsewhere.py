"""The engines without `runworkers`, as the documentation says: under gunicorn's gevent worker, by their name in DATABASES."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.db.servers import DatabaseServer
from tests.db.servers.base import wait_until
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
ENGINES = {"postgres": "djworker.db.backends.postgresql", "mariadb": "djworker.db.backends.mysql"}


def get(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/ask", timeout=60) as answer:
        return int(answer.read())


@contextmanager
def gunicorn(server: DatabaseServer, database: str, engine: str) -> Iterator[int]:
    port = free_port()
    about = {"ENGINE": engine, "DATABASE": database, "USER": server.user, "PASSWORD": server.password}
    environ = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.db.backends.elsewhere",
        "SITE_PORT": str(server.port),
        **{f"SITE_{name}": value for name, value in about.items()},
    }
    options = ["-k", "gevent", "-w", "1", "-b", f"127.0.0.1:{port}", "--no-control-socket"]
    command = [sys.executable, "-m", "gunicorn", *options, "django.core.wsgi:get_wsgi_application()"]
    process = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: process.poll() is not None or answers(port), 60, "gunicorn serves")
        yield port
    finally:
        process.terminate()
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log.decode()


def answers(port: int) -> bool:
    try:
        get(port)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("kind", list(ENGINES))
def test_the_name_of_the_engine_is_enough(request: pytest.FixtureRequest, kind: str) -> None:
    server: DatabaseServer = request.getfixturevalue(kind)
    database: str = request.getfixturevalue(f"{kind}_db")
    with gunicorn(server, database, ENGINES[kind]) as port, ThreadPoolExecutor(20) as clients:
        found = [clients.submit(get, port) for _ in range(100)]
        seen = []
        while not all(future.done() for future in found):
            seen.append(server.connections(database))
        seen.append(server.connections(database))
        assert {future.result() for future in found} <= {1, 2}
        assert max(seen) == 2

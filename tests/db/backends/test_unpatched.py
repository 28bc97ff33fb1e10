"""Engines that are named in the settings are Django's own where gevent has patched nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.db.servers import DatabaseServer
from tests.processes.project import SETTINGS, Project, make_template
from tests.processes.server import environment

ENGINES = {"postgres": "djworker.db.backends.postgresql", "mariadb": "djworker.db.backends.mysql"}
SESSION = {"postgres": "SELECT pg_backend_pid()", "mariadb": "SELECT CONNECTION_ID()"}
SITE = """
import asyncio, sys
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.db import connection
from django.test import AsyncClient, Client
from gevent import monkey

get_asgi_application()
from testproject.shop.models import Product

def session():
    with connection.cursor() as cursor:
        cursor.execute(sys.argv[1])
        return cursor.fetchone()[0]

async def page():
    answer = await AsyncClient().get("/")
    return answer.status_code, [product.pk async for product in Product.objects.all()]

call_command("migrate", check_unapplied=True, verbosity=0)
first = session()
assert Client().get("/").status_code == 200
assert session() == first, "CONN_MAX_AGE keeps the connection"
assert type(connection.connection).__module__.split(".")[0] in ("psycopg", "MySQLdb"), connection.connection
connection.close()
assert session() != first
assert asyncio.run(page()) == (200, [])
assert not monkey.is_module_patched("socket")
"""


def run(project: Project, url: str, *words: str) -> str:
    """A command in the project's folder; what it said."""
    known = {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "testproject.settings", "SHOP_DEBUG_VIEWS": "0"}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=project.folder,
        env=environment(known),
        capture_output=True,
        text=True,
        timeout=250,  # it runs the tests of a whole project
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def project(scratch: Path) -> Project:
    """The whole shop."""
    make_template(scratch / "shop", whole=True)
    return Project(scratch / "shop")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", list(ENGINES))
def test_commands_and_asgi(project: Project, request: pytest.FixtureRequest, kind: str) -> None:
    server: DatabaseServer = request.getfixturevalue(kind)
    name: str = request.getfixturevalue(f"{kind}_db")
    changes = {"ENGINE": ENGINES[kind], "CONN_MAX_AGE": 60}
    project.append(SETTINGS, f"DATABASES['default'].update({changes!r})")
    url = server.url(name)
    run(project, url, "manage.py", "migrate", "--verbosity", "0")
    run(project, url, "-c", SITE, SESSION[kind])
    assert "\nOK" in run(project, url, "manage.py", "test", "testproject")

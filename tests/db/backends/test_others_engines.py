"""Engines of other packages: put on a lease where they are built on Django's, left with a warning where that is not safe."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.db.servers import DatabaseServer
from tests.processes.project import SETTINGS, URLS, Project
from tests.processes.server import Server

#: As django-prometheus does it: connections and statements are counted, and the cursor is another one.
COUNTING = """
from STOCK import base

counted = {"connections": 0, "statements": 0}

class Counting:
    def get_new_connection(self, *args, **kwargs):
        counted["connections"] += 1
        return super().get_new_connection(*args, **kwargs)

    def create_cursor(self, name=None):
        cursor = super().create_cursor(name) if name else super().create_cursor()
        execute = cursor.execute
        def counting(*args, **kwargs):
            counted["statements"] += 1
            return execute(*args, **kwargs)
        try:
            cursor.execute = counting
        except AttributeError:
            pass
        return cursor

class DatabaseWrapper(Counting, base.DatabaseWrapper):
    display_name = "counted"
"""
#: As django-db-connection-pool does it: a connection comes from elsewhere.
POOLING = """
from STOCK import base

class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params):
        return base.DatabaseWrapper.get_new_connection(self, conn_params)

    def _close(self):
        self.connection.close()
"""
VIEW = """
import time
from django.conf import settings
from django.db import connection
from django.http import JsonResponse
import djworker.db

def asks(request):
    from testproject.engine import base
    with connection.cursor() as cursor:
        cursor.execute("SELECT SLEEP(0.3)" if connection.vendor == "mysql" else "SELECT pg_sleep(0.3)")
        cursor.fetchall()
    return JsonResponse({
        "name": settings.DATABASES["default"]["ENGINE"],
        "display": connection.display_name,
        "counted": getattr(base, "counted", None),
        "pools": djworker.db.stats(),
    })

urlpatterns += [path("asks", asks)]
"""
STOCK = {"postgres": "django.db.backends.postgresql", "mariadb": "django.db.backends.mysql"}


def use_engine(project: Project, text: str, stock: str) -> None:
    project.path("testproject/engine").mkdir()
    project.write("testproject/engine/base.py", text.replace("STOCK", stock))
    project.append(SETTINGS, 'DATABASES["default"]["ENGINE"] = "testproject.engine"')
    project.append(URLS, VIEW)
    project.settings(POOL={"max_size": 10})


@pytest.mark.parametrize("kind", list(STOCK))
def test_an_engine_that_is_built_on_djangos_is_put_on_a_lease(
    server: Server, project: Project, request: pytest.FixtureRequest, kind: str
) -> None:
    asked: DatabaseServer = request.getfixturevalue(kind)
    name: str = request.getfixturevalue(f"{kind}_db")
    use_engine(project, COUNTING, STOCK[kind])
    server.start(workers=1, environ={"DATABASE_URL": asked.url(name)})
    (row,) = server.events("engine")
    assert (row["was"], row["level"], row["lease"]) == ("testproject.engine", "info", "transaction")
    with ThreadPoolExecutor(10) as clients:
        answers = [answer.json() for answer in clients.map(server.get, ["/asks"] * 10)]
    assert {answer["name"] for answer in answers} == {"testproject.engine"}
    assert {answer["display"] for answer in answers} == {"counted"}
    numbers = server.get("/asks").json()
    assert 2 <= numbers["pools"]["default"]["connections_num"] == numbers["counted"]["connections"] <= 10


@pytest.mark.parametrize("kind", list(STOCK))
def test_an_engine_with_connections_of_its_own_is_left_and_the_log_knows_the_way_out(
    server: Server, project: Project, request: pytest.FixtureRequest, kind: str
) -> None:
    asked: DatabaseServer = request.getfixturevalue(kind)
    name: str = request.getfixturevalue(f"{kind}_db")
    use_engine(project, POOLING, STOCK[kind])
    server.start(workers=1, environ={"DATABASE_URL": asked.url(name)})
    (row,) = server.events("engine")
    assert row["level"] == "warning"
    assert "testproject.engine.base.DatabaseWrapper has its own _close()" in row["message"]
    assert ("stops all requests of a worker" in row["message"]) == (kind == "mariadb")
    assert f"write ENGINE = '{STOCK[kind]}'" in row["message"]
    assert server.get("/asks").json()["pools"] == {}


def test_an_engine_that_is_built_on_sqlites_has_writers_that_take_turns(server: Server, project: Project) -> None:
    use_engine(project, COUNTING, "django.db.backends.sqlite3")
    server.start(workers=1)
    (row,) = server.events("engine")
    assert (row["level"], row["driver"]) == ("info", "sqlite3")
    assert row["message"].endswith("not pooled, writers take turns")
    assert server.get("/db").status == 200


STOCK_PACKAGES = {
    "postgresql": "django.db.backends.postgresql",
    "postgis": "django.contrib.gis.db.backends.postgis",
    "mysql": "django.db.backends.mysql",
    "sqlite3": "django.db.backends.sqlite3",
}
COMPARE = """
import importlib, pkgutil, sys
from django.conf import settings
settings.configure()
import django
django.setup()
theirs, ours = sys.argv[1:]
for module in pkgutil.iter_modules(importlib.import_module(theirs).__path__):
    mine = importlib.import_module(f"{ours}.{module.name}")
    stock = importlib.import_module(f"{theirs}.{module.name}")
    names = getattr(stock, "__all__", [name for name in vars(stock) if not name.startswith("_")])
    print(*(f"{module.name}.{name}" for name in names if not hasattr(mine, name)))
"""


@pytest.mark.parametrize("ours", list(STOCK_PACKAGES))
def test_what_lies_beside_djangos_engine_lies_beside_ours(ours: str) -> None:
    """For packages that take `introspection` from the engine that their settings name: django-tenants, django-pgschemas."""
    command = [sys.executable, "-c", COMPARE, STOCK_PACKAGES[ours], f"djworker.db.backends.{ours}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


SAME = """
import sys, types
from importlib import import_module
from django.conf import settings
settings.configure()
import django
django.setup()
from django.db import utils
from djworker.conf.engine_names import ENGINES
from djworker.db.engines import Loader
for stock, ours in ENGINES.items():
    if "gis" in stock:
        continue
    module = types.ModuleType("shop.engine")
    module.DatabaseWrapper = import_module(f"{stock}.base").DatabaseWrapper
    load = Loader(lambda name: module)
    same = load("shop.engine").DatabaseWrapper is import_module(f"{ours}.base").DatabaseWrapper
    print(same, load.serving["shop.engine"] == ours)
"""


def test_an_engine_that_only_gives_djangos_by_another_name_is_ours() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", SAME], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n") == ["True True"] * 3 + [""], done.stdout + done.stderr

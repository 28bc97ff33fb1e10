"""The table of engines at the boot of a project with several databases, a router, and an engine of its own."""

from __future__ import annotations

from tests.db.servers import MariaDBServer, PostgresServer
from tests.processes.project import SETTINGS, URLS, Project
from tests.processes.server import Server

OWN_ENGINE = """
from django.db.backends.postgresql import base

class DatabaseWrapper(base.DatabaseWrapper):
    display_name = "ours, with something added"
"""
ROUTER = """
class Router:
    def db_for_read(self, model, **hints):
        return "archive" if model.__name__ == "Order" else None
"""
VIEW = """
from django.db import connections
from django.http import JsonResponse
import djworker.db

def databases(request):
    from testproject.shop.models import Order, Product

    found = {}
    for alias in connections:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT DATABASE()" if connections[alias].vendor == "mysql" else "SELECT current_database()")
            found[alias] = cursor.fetchone()[0]
    read = [model.objects.raw("SELECT 1 AS id")[0]._state.db for model in (Order, Product)]
    return JsonResponse({"found": found, "read": read, "pools": sorted(djworker.db.stats())})

urlpatterns += [path("databases", databases)]
"""


def test_each_alias_has_its_engine_and_its_line(
    server: Server,
    project: Project,
    postgres: PostgresServer,
    postgres_db: str,
    mariadb: MariaDBServer,
    mariadb_db: str,
) -> None:
    project.path("testproject/engine").mkdir()
    project.write("testproject/engine/base.py", OWN_ENGINE)
    project.write("testproject/routers.py", ROUTER)
    project.append(URLS, VIEW)
    project.append(
        SETTINGS,
        f"""
DATABASES["archive"] = dj_database_url.parse({mariadb.url(mariadb_db)!r})
DATABASES["own"] = DATABASES["default"] | {{"ENGINE": "testproject.engine"}}
DATABASE_ROUTERS = ["testproject.routers.Router"]
DJWORKER = {{"POOL": {{"max_size": 3}}, "POOLS": {{"archive": {{"lease": "request", "min_size": 1}}}}}}
""",
    )
    server.start(workers=1, environ={"DATABASE_URL": postgres.url(postgres_db)})
    rows = {event["alias"]: event for event in server.events("engine")}
    assert {alias: (row["engine"], row["driver"], row["lease"], row["sizes"]) for alias, row in rows.items()} == {
        "default": ("djworker.db.backends.postgresql", "psycopg", "transaction", "0-3"),
        "archive": ("djworker.db.backends.mysql", "mysqlclient", "request", "1-3"),
        "own": ("djworker.db.backends.postgresql", "psycopg", "transaction", "0-3"),
    }
    assert rows["default"]["message"].endswith("psycopg, transaction lease, 0-3 connections per worker")
    assert "'own': testproject.engine (on djworker.db.backends.postgresql), psycopg" in rows["own"]["message"]
    assert server.get("/databases").json() == {
        "found": {"default": postgres_db, "archive": mariadb_db, "own": postgres_db},
        "read": ["archive", "default"],
        "pools": ["archive", "default", "own"],
    }

"""What a server is started with reaches the pools of its workers, and what a pool keeps is there before any request."""

from __future__ import annotations

import subprocess
import sys

from tests.db.servers import DatabaseServer, MariaDBServer, PostgresServer
from tests.processes.events import eventually
from tests.processes.project import URLS, Project
from tests.processes.server import Server, environment

VIEW = """
from django.db import connection
from django.http import JsonResponse
from djworker.db import stats

def numbers(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse(stats()["default"])

urlpatterns += [path("numbers", numbers)]
"""
SHELL = """
import django; django.setup()
from django.conf import settings
from djworker.conf import pool_resolve
print(pool_resolve.for_alias("default", settings.DJWORKER, None).max_size)
"""


def sizes(server: Server) -> tuple[int, int]:
    """Least and most connections of the worker that answers."""
    numbers = server.get("/numbers").json()
    return numbers["pool_min"], numbers["pool_max"]


def sessions(database: DatabaseServer, name: str) -> int:
    """How many the server counts."""
    return len(database.activity(name))


def test_a_flag_and_a_variable_reach_the_workers_of_every_generation(
    server: Server, project: Project, postgres: PostgresServer, postgres_db: str
) -> None:
    project.append(URLS, VIEW)
    project.settings(POOL={"max_size": 7, "min_size": 2})
    environ = {"DATABASE_URL": postgres.url(postgres_db), "DJWORKER_POOL_MIN_SIZE": "1", "DJWORKER_POOL_MAX_SIZE": "5"}
    server.start(workers=1, probe="off", pool_max_size=3, environ=environ)
    told = server.events("engine")[0]
    assert told["sizes"] == "1-3", told
    assert sizes(server) == (1, 3)
    server.reload()
    eventually(lambda: sizes(server) == (1, 3), "the new worker answers, and has them too")
    shell = subprocess.run(
        [sys.executable, "-c", SHELL],
        cwd=project.folder,
        env={**environment(environ), "DJANGO_SETTINGS_MODULE": "testproject.settings"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert shell.stdout.split() == ["5"], "a shell has the environment, and no flags of the server's"


def test_what_a_pool_keeps_is_opened_before_any_request(
    server: Server, project: Project, mariadb: MariaDBServer, mariadb_db: str
) -> None:
    project.settings(POOL={"min_size": 2})
    server.start(workers=2, probe="off", environ={"DATABASE_URL": mariadb.url(mariadb_db)})
    eventually(lambda: sessions(mariadb, mariadb_db) == 4, "two connections of each worker")
    server.reload()
    eventually(lambda: sessions(mariadb, mariadb_db) == 4, "the old workers' are closed, the new ones' are open")


def test_a_worker_serves_though_it_cannot_open_what_its_pool_keeps(server: Server, project: Project) -> None:
    project.settings(POOL={"min_size": 2})
    server.start(workers=1, probe="off", environ={"DATABASE_URL": "postgres://nobody@127.0.0.1:1/nothing"})
    server.wait_for("pool_outage")
    assert server.get("/debug/pid").status == 200

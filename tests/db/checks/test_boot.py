"""What a mold finds is said in the log, knows the real number of workers, and costs no server its start."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import pytest

from tests.db.proxy import TCPProxy
from tests.db.servers import DatabaseServer, MariaDBServer, PostgresServer
from tests.processes.events import Event
from tests.processes.project import SETTINGS, URLS, Project
from tests.processes.server import MANAGE, Server

#: As most projects start it.
PROGRAM = MANAGE

VIEW = """
from django.db import connection
from django.http import HttpResponse

def asks(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return HttpResponse(str(cursor.fetchone()[0]))

urlpatterns += [path("asks", asks)]
"""
Proxy = Callable[[DatabaseServer], TCPProxy]


def told(server: Server) -> list[Event]:
    """What the checks have said; the databases are empty, so that migrations are lacking."""
    return server.events("check", id=lambda number: number != "djworker.W204")


def test_more_than_the_server_takes(
    server: Server, project: Project, postgres: PostgresServer, postgres_db: str
) -> None:
    project.settings(WORKERS=1, POOL={"max_size": 70})
    server.start(workers=2, environ={"DATABASE_URL": postgres.url(postgres_db)})
    [event] = told(server)
    assert event["id"] == "djworker.W108"
    assert event["message"].startswith("djworker.W108: database 'default': 2 workers, and one more during a reload")
    assert "want 210, and the server takes 197: lower max_size" in event["message"]
    assert not connections_of_the_mold(server)


def test_what_one_worker_wants(server: Server, project: Project, mariadb: MariaDBServer, mariadb_db: str) -> None:
    project.settings(WORKERS=9, POOL={"max_size": 70})
    server.start(workers=1, environ={"DATABASE_URL": mariadb.url(mariadb_db)})
    assert told(server) == []
    assert not connections_of_the_mold(server)


def test_the_number_of_workers_is_that_of_the_start(server: Server) -> None:
    server.launch(workers=None, environ={"WEB_CONCURRENCY": "2"})
    server.wait_for("worker_ready", count=2)
    [event] = told(server)
    assert event["id"] == "djworker.W106"
    assert "is SQLite, and 2 workers" in event["message"]


@pytest.mark.parametrize("url", ["wrong password", "no database"])
def test_wrong_settings_are_told_before_the_first_request(
    server: Server, postgres: PostgresServer, postgres_db: str, url: str
) -> None:
    wrong = postgres.url(postgres_db, password="wrong") if url == "wrong password" else postgres.url("nowhere")
    server.start(workers=1, environ={"DATABASE_URL": wrong})
    [event] = told(server)
    assert event["id"] == "djworker.W111"
    assert ("password authentication failed" if url == "wrong password" else '"nowhere" does not exist') in event[
        "message"
    ]


def test_a_server_that_is_away_or_deaf_holds_up_nothing(
    server: Server, project: Project, postgres: PostgresServer, postgres_db: str, proxy: Proxy
) -> None:
    line = proxy(postgres)
    line.deaf()
    server.start(workers=1, environ={"DATABASE_URL": postgres.url(postgres_db, port=line.port)})
    assert "no answer within 3 s" in told(server)[0]["message"]
    line.stop()
    mark = server.reload()
    [event] = server.events("check", mark)
    assert event["id"] == "djworker.W111"
    assert "refused" in event["message"]


def connections_of_the_mold(server: Server) -> list[object]:
    """What it has with others; workers and the probe have theirs."""
    return [line for line in psutil.Process(server.mold()).net_connections("inet") if line.status != psutil.CONN_LISTEN]


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_warm_up_on_a_database_server(
    server: Server, project: Project, request: pytest.FixtureRequest, kind: str
) -> None:
    """Its pool, its hub and its threads do not hinder the fork; `localhost` is looked up in a thread."""
    asked: DatabaseServer = request.getfixturevalue(kind)
    name: str = request.getfixturevalue(f"{kind}_db")
    project.append(URLS, VIEW)
    project.settings(WARM_UP=["/asks"], POOL={"min_size": 1})
    host = "localhost" if kind == "postgres" else asked.host
    server.start(workers=1, environ={"DATABASE_URL": asked.url(name, host=host)})
    assert not connections_of_the_mold(server)
    assert server.get("/asks").body == b"1"


def test_warm_up_on_a_pool_of_django_db_geventpools(
    server: Server, project: Project, postgres: PostgresServer, postgres_db: str
) -> None:
    project.append(URLS, VIEW)
    project.append(SETTINGS, 'DATABASES["default"]["ENGINE"] = "django_db_geventpool.backends.postgresql_psycopg3"\n')
    project.settings(WARM_UP=["/asks"])
    server.start(workers=1, environ={"DATABASE_URL": postgres.url(postgres_db)})
    assert not connections_of_the_mold(server)
    assert server.get("/asks").body == b"1"


def test_a_module_that_asks_while_it_is_loaded(
    server: Server, project: Project, mariadb: MariaDBServer, mariadb_db: str
) -> None:
    project.append(URLS, f"{VIEW}\nasks(None)")
    server.start(workers=1, environ={"DATABASE_URL": mariadb.url(mariadb_db)})
    assert not connections_of_the_mold(server)
    assert server.get("/asks").body == b"1"

"""However a worker ends, its sessions end with it; and where it ends by itself, it says good-bye to the server."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest

from tests.db.servers import DatabaseServer
from tests.processes.events import eventually
from tests.processes.project import URLS, Project
from tests.processes.server import Server

VIEWS = """
import os
from django.db import connection, transaction
from django.http import JsonResponse
from testproject.shop import VERSION

def ask(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()

def two(request):
    with transaction.atomic():
        ask("SELECT 1")
    ask("SELECT 2")
    return JsonResponse({"pid": os.getpid(), "version": VERSION})

def slow(request):
    sleep = "pg_sleep" if connection.vendor == "postgresql" else "SLEEP"
    with transaction.atomic():
        ask(f"SELECT {sleep}(60)")
    return JsonResponse({})

urlpatterns += [path("two", two), path("slow", slow)]
"""


@dataclass
class Database:
    """What the server itself says of its sessions."""

    server: DatabaseServer
    name: str
    #: The local ports of all clients.
    ports: str
    #: How many clients vanished without a word, since the database or the server exists.
    vanished: str

    def ask(self, sql: str) -> set[int]:
        """Numbers."""
        return {int(row[0]) for row in self.server.execute(sql.format(name=self.name))}

    def clients(self) -> set[int]:
        """The ports that its clients have at their end."""
        return self.ask(self.ports)

    def lost(self) -> int:
        """How many ended without a word."""
        return self.ask(self.vanished).pop()

    def active(self) -> int:
        """Statements that run now."""
        return sum(state == "active" for _, state, _ in self.server.activity(self.name))


@pytest.fixture(params=["postgres", "mariadb"])
def database(request: pytest.FixtureRequest) -> Database:
    """Both kinds."""
    server, name = request.getfixturevalue(request.param), request.getfixturevalue(f"{request.param}_db")
    if request.param == "postgres":
        ports = "SELECT client_port FROM pg_stat_activity WHERE datname = '{name}' AND client_port > 0"
        vanished = "SELECT sessions_abandoned FROM pg_stat_database WHERE datname = '{name}'"
    else:
        ports = "SELECT substring_index(host, ':', -1) FROM information_schema.processlist WHERE db = '{name}'"
        vanished = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'ABORTED_CLIENTS'"
    return Database(server, name, ports, vanished)


@pytest.fixture
def running(server: Server, project: Project, database: Database) -> Server:
    """One worker on that database."""
    project.append(URLS, VIEWS)
    server.start(workers=1, graceful_timeout=1, environ={"DATABASE_URL": database.server.url(database.name)})
    return server


def ports_of(pid: int) -> Iterator[int]:
    """Local ports of a process's connections."""
    return (line.laddr.port for line in psutil.Process(pid).net_connections("tcp4"))


def assert_only_of(pid: int, database: Database) -> None:
    """Every session of the database belongs to this worker."""

    def holds() -> bool:
        found = database.clients()
        return bool(found) and found <= set(ports_of(pid))

    eventually(holds, "sessions of workers that are gone are gone")


def replaced(server: Server, old: int, mark: int) -> int:
    """Wait for the old worker's end and for its successor, who is returned."""
    server.wait_for("worker_gone", since=mark, pid=old)
    return int(server.wait_for("worker_ready", since=mark)["pid"])


def test_workers_come_and_go_under_load(running: Server, database: Database) -> None:
    """TERM to a worker (that is how it is recycled), HUP: good-byes and no lost request. KILL: sessions end all the same."""
    before = database.lost()
    with running.load(path="/two", clients=4) as load:
        load.wait_for_answers(40)
        assert_only_of(running.ready()[0], database)
        for send in (lambda: running.kill(running.ready()[0], signal.SIGTERM), running.hup):
            old = running.ready()[0]
            assert_only_of(replaced(running, old, send()), database)
            load.wait_for_answers(20)
        load.stop()
        load.assert_nothing_lost()
        assert database.lost() == before
    with running.load(path="/two", clients=4) as load:
        load.wait_for_answers(20)
        old = running.ready()[0]
        assert_only_of(replaced(running, old, running.kill(old)), database)
        load.wait_for_answers(20)
    assert running.stop() == 0
    eventually(lambda: not database.clients(), "nobody is left")
    assert database.lost() > before, "the sessions of the killed worker, and so the count works"


def test_what_is_cut_is_cancelled_in_the_server(running: Server, database: Database) -> None:
    running.tracebacks_expected = True  # the views' statements fail
    slow = [running.in_background("/slow") for _ in range(3)]
    eventually(lambda: database.active() == 3, "three statements run")
    assert running.stop() == 0
    eventually(lambda: not database.clients(), "the statements were stopped, and their sessions ended")
    assert len(running.events("request_cut")) == 3
    assert not running.events("worker_killed")
    for request in slow:
        request.result()


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_a_query_of_a_killed_worker_ends_too(running: Server, database: Database) -> None:
    """PostgreSQL can be told to look at its clients. On MySQL the query runs to its end."""
    slow = [running.in_background("/slow") for _ in range(3)]
    eventually(lambda: database.active() == 3, "three statements run")
    old = running.ready()[0]
    replaced(running, old, running.kill(old))
    eventually(lambda: not database.active(), "the server has looked at its clients")
    for request in slow:
        request.result()

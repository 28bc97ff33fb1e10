"""The fixtures themselves: what the other tests lean on must hold."""

from __future__ import annotations

import fcntl
import os
import pickle
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pymysql
import pytest

from tests.db.proxy import TCPProxy
from tests.db.servers import DatabaseServer, MariaDBServer, PostgresServer
from tests.db.servers.base import ABANDONED_AFTER, readable, remove_abandoned, wait_until


def test_postgres_counts_and_cuts_its_clients(postgres: PostgresServer, postgres_db: str) -> None:
    with psycopg.connect(**postgres.params(postgres_db)) as connection:
        assert postgres.connections(postgres_db) == 1
        assert postgres.connections("another") == 0
        assert postgres.terminate_backends(postgres_db) == 1
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_mariadb_counts_and_cuts_its_clients(mariadb: MariaDBServer, mariadb_db: str) -> None:
    connection = pymysql.connect(**mariadb.params(mariadb_db))
    assert mariadb.connections(mariadb_db) == 1
    assert mariadb.connections("another") == 0
    assert mariadb.terminate_backends(mariadb_db) == 1
    with pytest.raises(pymysql.err.OperationalError):
        connection.ping()


@pytest.mark.parametrize("kind", [PostgresServer, MariaDBServer])
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_comes_back_with_its_port_and_data(kind: type[DatabaseServer], mode: str) -> None:
    with kind() as server:
        server.create_database("kept")
        port = server.port
        server.restart(mode)
        assert server.port == port
        server.execute("SELECT 1", dbname="kept")


def test_a_handle_works_in_another_process(postgres: PostgresServer) -> None:
    assert pickle.loads(pickle.dumps(postgres)).execute("SELECT 1") == [(1,)]


@pytest.mark.parametrize("kind,number", [("postgres", "pg_backend_pid()"), ("mariadb", "CONNECTION_ID()")])
def test_the_administrator_keeps_his_session_while_it_lives(
    request: pytest.FixtureRequest, kind: str, number: str
) -> None:
    server, database = request.getfixturevalue(kind), request.getfixturevalue(f"{kind}_db")

    def session() -> int:
        return int(server.execute(f"SELECT {number}")[0][0])

    first = session()
    assert session() == first
    wait_until(
        lambda: not server.connections(server.maintenance_db), 20, "no other test has one, and this one is not counted"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pytest-xdist has threads
        child = os.fork()
    if child == 0:
        try:
            os._exit(session() == first)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0, "and not used by a child"
    assert session() == first
    end = f"SELECT pg_terminate_backend({first})" if kind == "postgres" else f"KILL {first}"
    server.execute(end, dbname=database)
    [kept] = server._idle()
    wait_until(lambda: readable(server._line(kept)), 20, "the news has arrived")
    second = session()
    assert second != first
    assert session() == second


def test_only_the_data_of_a_run_that_was_killed_is_removed(postgres: PostgresServer, tmp_path: Path) -> None:
    old = time.time() - 2 * ABANDONED_AFTER
    killed, used, young, foreign = (tmp_path / name for name in ("djworker-a", "djworker-b", "djworker-c", "other"))
    for folder in (killed, used, young, foreign):
        (folder / "data").mkdir(parents=True)
        if folder is not young:
            os.utime(folder, (old, old))
    lock = os.open(used, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    remove_abandoned(tmp_path)
    os.close(lock)
    assert sorted(tmp_path.iterdir()) == [used, young, foreign]
    assert postgres.directory is not None
    ours = os.open(postgres.directory, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(ours, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(ours)


def test_faults_of_the_proxy_are_those_of_a_network(
    postgres: PostgresServer, proxy: Callable[[DatabaseServer], TCPProxy]
) -> None:
    network = proxy(postgres)
    params = postgres.params("postgres", port=network.port, connect_timeout=2)
    with psycopg.connect(**params, autocommit=True) as connection:
        connection.execute("SELECT 1")
        network.deaf()
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            psycopg.connect(**params)
        network.start()
        connection.execute("SELECT 1")
        network.cut()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    network.stop()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(**params)
    network.start()
    psycopg.connect(**params).close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        yield server


def test_what_was_sent_in_a_slow_network_is_not_overtaken(listener: socket.socket) -> None:
    with TCPProxy(*listener.getsockname()) as network, socket.create_connection(("127.0.0.1", network.port)) as client:
        network.latency(200)
        client.sendall(b"first ")
        wait_until(lambda: network.stats()["round_trips"] == 1, 20, "it is under way")
        network.start()
        client.sendall(b"second")
        client.shutdown(socket.SHUT_WR)
        server, _ = listener.accept()
        with server, server.makefile("rb") as stream:
            assert stream.read() == b"first second"


def test_a_connection_that_nobody_hears_is_reset_like_others(listener: socket.socket) -> None:
    with TCPProxy(*listener.getsockname()) as network:
        network.deaf()
        with socket.create_connection(("127.0.0.1", network.port), 20) as client:
            wait_until(lambda: network.stats()["open"] == 1, 20, "it is seen")
            network.cut()
            assert network.stats()["open"] == 0
            with pytest.raises(ConnectionResetError):
                client.recv(1)

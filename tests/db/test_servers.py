"""The fixtures themselves: what the other tests lean on must hold."""

from __future__ import annotations

import fcntl
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pymysql
import pytest

from tests.db.proxy import TCPProxy
from tests.db.servers import DatabaseServer, MariaDBServer, PostgresServer
from tests.db.servers.base import ABANDONED_AFTER, remove_abandoned


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

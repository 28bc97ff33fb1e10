"""Fixtures: one PostgreSQL and one MariaDB per test run, a database per test, a bad network when wanted.

Any conftest may import them (`from tests.db.fixtures import *`): the servers are started once per process, whoever asks.
"""

from __future__ import annotations

import atexit
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from tests.db.proxy import NoProxy, TCPProxy
from tests.db.servers import DatabaseServer, MariaDBServer, PostgresServer

__all__ = ["mariadb", "mariadb_db", "postgres", "postgres_db", "proxy", "way_to"]

Server = TypeVar("Server", bound=DatabaseServer)
_numbers = itertools.count(1)
_running: dict[type[DatabaseServer], DatabaseServer] = {}


def shared(kind: type[Server]) -> Server:
    """The server of this kind that all tests of this process share; it ends with the process."""
    server = _running.get(kind)
    if server is None:
        stack = ExitStack()
        server = _running[kind] = kind()
        server.shared = True
        stack.enter_context(server)
        atexit.register(stack.close)
    assert isinstance(server, kind)
    return server


def _database(server: DatabaseServer) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    server.create_database(name)
    yield name
    server.drop_database(name)


@pytest.fixture(scope="session")
def postgres() -> PostgresServer:
    """The shared PostgreSQL."""
    return shared(PostgresServer)


@pytest.fixture(scope="session")
def mariadb() -> MariaDBServer:
    """The shared MariaDB."""
    return shared(MariaDBServer)


@pytest.fixture
def postgres_db(postgres: PostgresServer) -> Iterator[str]:
    """Name of an empty PostgreSQL database for this test alone."""
    yield from _database(postgres)


@pytest.fixture
def mariadb_db(mariadb: MariaDBServer) -> Iterator[str]:
    """Name of an empty MariaDB database for this test alone."""
    yield from _database(mariadb)


def way_to(server: DatabaseServer, request: pytest.FixtureRequest) -> TCPProxy:
    """Through a proxy, where the test's module has the word; straight to the server elsewhere: all that passes costs twice."""
    if "proxy" not in Path(request.module.__file__).read_text():
        return NoProxy(server.host, server.port)
    make_proxy: Callable[[DatabaseServer], TCPProxy] = request.getfixturevalue("proxy")
    return make_proxy(server)


@pytest.fixture
def proxy() -> Iterator[Callable[[DatabaseServer], TCPProxy]]:
    """`proxy(server)`: a TCP proxy before the server, stopped after the test."""
    with ExitStack() as stack:
        yield lambda server: stack.enter_context(TCPProxy(server.host, server.port))

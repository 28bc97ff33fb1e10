"""What a driver test works on: a driver, a database of its own, and the way to it."""

from __future__ import annotations

import importlib
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.db.proxy import TCPProxy
from tests.db.servers import DatabaseServer


class Kind(NamedTuple):
    """Where a driver lives and what it speaks."""

    dialect: str
    module: str
    name: str


DRIVERS = {
    "psycopg3": Kind("postgres", "psycopg3", "Psycopg3Driver"),
    "psycopg2": Kind("postgres", "psycopg2", "Psycopg2Driver"),
    "mysqlclient": Kind("mysql", "mysqlclient", "MySQLClientDriver"),
    "pymysql": Kind("mysql", "pymysql", "PyMySQLDriver"),
}
DEADLINE = 20.0  # seconds for something that must happen


@dataclass
class Target:
    """One driver and its database. Pickled into the patched interpreter."""

    name: str
    server: DatabaseServer
    proxy: TCPProxy
    database: str

    @property
    def dialect(self) -> str:
        """What it speaks: postgres or mysql."""
        return DRIVERS[self.name].dialect

    @property
    def driver(self) -> Any:
        """The driver; imported here, so that pytest's own process never does."""
        kind = DRIVERS[self.name]
        return getattr(importlib.import_module(f"djworker.db.drivers.{kind.module}"), kind.name)()

    def params(self, **more: Any) -> dict[str, Any]:
        """Connection parameters, through the proxy."""
        return {**self.server.params(self.database, port=self.proxy.port), **more}  # type: ignore[attr-defined]

    def connect(self, **more: Any) -> Any:
        """A connection in autocommit mode."""
        driver = self.driver
        conn = driver.connect(self.params(**more))
        driver.set_autocommit(conn, True)
        return conn

    def sleep_sql(self, seconds: float) -> str:
        """A statement that takes so long."""
        return f"SELECT {'pg_sleep' if self.dialect == 'postgres' else 'SLEEP'}({seconds})"

    def active(self) -> int:
        """How many statements run in our database, as the server sees it."""
        return sum(state == "active" for _, state, _ in self.server.activity(self.database))

    def sessions(self) -> int:
        """How many sessions the server counts in our database."""
        return self.server.connections(self.database)


def run(conn: Any, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
    """Execute on a cursor of its own; all rows."""
    cursor = conn.cursor()
    try:
        cursor.execute(sql, params)
        return list(cursor.fetchall()) if cursor.description else []
    finally:
        cursor.close()


def fork() -> int:
    """os.fork, without Python's warning that other threads exist: the child only forgets a connection and exits.

    gevent learns of SIGCHLD from its first fork on, too late for a child that has ended by then: nobody would wait it out.
    """
    import gevent

    gevent.get_hub().loop.install_sigchld()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait, letting other greenlets run, until the condition holds."""
    import gevent

    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        gevent.sleep(0.01)

"""A Django project in a patched interpreter, on one driver, one lease and a database of its own."""

from __future__ import annotations

import functools
import gc
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.db.drivers.target import eventually
from tests.db.proxy import TCPProxy
from tests.db.servers import DatabaseServer

__all__ = ["DRIVERS", "Site", "eventually"]


class Kind(NamedTuple):
    """An engine, and the library under it."""

    dialect: str
    engine: str


DRIVERS = {
    "psycopg3": Kind("postgres", "djworker.db.backends.postgresql"),
    "psycopg2": Kind("postgres", "djworker.db.backends.postgresql"),
    "mysqlclient": Kind("mysql", "djworker.db.backends.mysql"),
    "pymysql": Kind("mysql", "djworker.db.backends.mysql"),
}


def choose(driver: str) -> None:
    """Make Django find this library and no other. Once per interpreter, before Django's backends are imported."""
    if driver == "psycopg2":
        sys.modules["psycopg"] = None  # type: ignore[assignment]
        importlib.import_module("django.db.backends.postgresql.base")
        del sys.modules["psycopg"]  # the server's handle wants it
    if driver == "pymysql":
        import pymysql

        pymysql.install_as_MySQLdb()


@functools.cache
def configure(driver: str, engine: str) -> type[Any]:
    """Set Django up once per interpreter; the model that tests use."""
    import django
    from django.conf import settings
    from django.db import models
    from django.db.utils import load_backend

    base = {"ENGINE": engine, "NAME": "", "USER": "", "PASSWORD": "", "HOST": "", "PORT": ""}
    settings.configure(DATABASES={"default": dict(base), "other": dict(base)}, USE_TZ=True, TIME_ZONE="Europe/Paris")
    choose(driver)
    django.setup()
    load_backend(engine)
    # Behind each test all is collected, for what only a finalizer sees. Modules need not be looked at each time: 40 ms of CPU.
    gc.collect()
    gc.freeze()

    class Item(models.Model):
        name = models.CharField(max_length=50, unique=True)

        class Meta:
            app_label = "lease"

    return Item


@dataclass
class Site:
    """Pickled into the patched interpreter. `start()` is called there, once per test."""

    driver: str
    lease: str
    server: DatabaseServer
    proxy: TCPProxy
    database: str
    engine: str = ""

    @property
    def dialect(self) -> str:
        """postgres or mysql."""
        return DRIVERS[self.driver].dialect

    @property
    def transaction_lease(self) -> bool:
        """Whether a connection goes back before the end of the request."""
        return self.lease == "transaction"

    def start(self, *, options: dict[str, Any] | None = None, create: bool = True, **pool: Any) -> type[Any]:
        """Point Django at this test's database; the model, with its table made."""
        item = configure(self.driver, self.engine or DRIVERS[self.driver].engine)
        from django.conf import settings
        from django.db import connection, connections

        from djworker.db.lease import registry

        # Those of earlier tests, whose databases are gone. A connection that is still made would call this test's receivers.
        registry.end_all(1.0)
        pool = {"max_size": 3, "timeout": 2, "lease": self.lease, **pool}
        settings.DJWORKER = {"POOL": {name: value for name, value in pool.items() if value is not None}}
        for alias in ("default", "other"):
            connections[alias].close()
            del connections[alias]
            connections.settings[alias].update(
                NAME=self.database,
                USER=self.server.user,
                PASSWORD=self.server.password,
                HOST=self.proxy.host,
                PORT=str(self.proxy.port),
                OPTIONS=dict(options or {}),
            )
        if create:
            with connection.schema_editor() as editor:
                editor.create_model(item)
            connection.close()
        return item

    def sleep_sql(self, seconds: float) -> str:
        """A statement that takes so long."""
        return f"SELECT {'pg_sleep' if self.dialect == 'postgres' else 'SLEEP'}({seconds})"

    @property
    def session_sql(self) -> str:
        """The server's number of the session."""
        return "SELECT pg_backend_pid()" if self.dialect == "postgres" else "SELECT CONNECTION_ID()"

    def sessions(self) -> int:
        """How many sessions the server counts in our database."""
        return self.server.connections(self.database)

    def active(self) -> int:
        """How many statements run in our database."""
        return sum(state == "active" for _, state, _ in self.server.activity(self.database))


def request(function: Callable[..., Any], *args: Any) -> Any:
    """A greenlet that does what a worker's does around a view. Its value may be had with `get()`."""
    import gevent
    from django.core.signals import request_finished, request_started

    def run() -> Any:
        request_started.send(sender=None, environ={"REQUEST_METHOD": "GET", "PATH_INFO": "/test/"})
        try:
            return function(*args)
        finally:
            request_finished.send(sender=None)

    return gevent.spawn(run)


def view(function: Callable[..., Any], *args: Any) -> Any:
    """One whole request; what the view returns."""
    return request(function, *args).get()


@contextmanager
def held_by_another() -> Iterator[None]:
    """Another request holds a connection meanwhile: the only one there is, or the one that ours used last."""
    from django.db import transaction
    from gevent.event import Event

    inside, over = Event(), Event()

    def holder() -> None:
        with transaction.atomic():
            query("SELECT 1")
            inside.set()
            assert over.wait(20)

    other = request(holder)
    assert inside.wait(20)
    try:
        yield
    finally:
        over.set()
        other.get()


def by_another(function: Any, **arguments: Any) -> None:
    """Call it in a greenlet that has our Django connection, as LiveServerTestCase's server has its test's."""
    import gevent
    from django.db import connections

    ours = connections["default"]

    def work() -> None:
        connections["default"] = ours
        function(**arguments)

    ours.inc_thread_sharing()
    try:
        gevent.spawn(work).get()
    finally:
        ours.dec_thread_sharing()


def query(sql: str, params: Any = None) -> Any:
    """The first row."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone() if cursor.description else None


def held() -> bool:
    """Whether the calling request holds a physical connection now."""
    from django.db import connection

    return connection.lease is not None and connection.lease.conn is not None  # type: ignore[attr-defined]


def session_of(sql: str, params: Any = None) -> int:
    """Run the statement; the server's number of the session that it ran in.

    The server is not asked for it: a request that has asked keeps its session.
    """
    from django.db import connection

    query(sql, params)
    lease = connection.lease  # type: ignore[attr-defined]
    return int(lease.driver.backend_id(lease.read_backs.last))


def pool() -> Any:
    """The pool of the default alias."""
    from django.db import connection

    return connection.leased_pool.pool


def at_rest() -> bool:
    """Whether every connection is back and healthy."""
    numbers = pool().stats()
    return bool(numbers["pool_size"] == numbers["pool_available"] and not numbers["requests_waiting"])


def fill(item: type[Any], number: int) -> None:
    """So many items, made in a request of their own."""
    view(item.objects.bulk_create, [item(name=str(name)) for name in range(number)])

"""Our pool in the seam of django-db-geventpool: its engines and wrappers stay as they are, and its bound holds at last.

Its wrapper borrows with `get()` at a request's first query, gives back with `put()` at its end, and calls `close()` when it
finds its connection closed. django-db-geventpool 4.0.8 counts a connection after the connect: 50 with `MAX_CONNS = 4`.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakSet

from django.conf import settings
from django.db.utils import DatabaseErrorWrapper
from gevent import getcurrent

from djworker.conf.engine_names import GEVENTPOOL, MAX_CONNS
from djworker.conf.pool_resolve import for_alias
from djworker.conf.pool_table import PoolOptions
from djworker.db.drivers import connect_errors
from djworker.db.drivers.sockets import mind_the_peer
from djworker.db.errors import DJANGO
from djworker.db.lease.demotion import Demotion
from djworker.db.lease.leased_pool import notify
from djworker.db.lease.registry import register
from djworker.db.observe.labels import label_of
from djworker.db.observe.pool_watch import PoolWatch
from djworker.db.pool.limits import Limits
from djworker.db.pool.pool import Pool

if TYPE_CHECKING:
    from types import TracebackType

    from psycopg2.extensions import connection

    from djworker.db.drivers.base import Driver, Params
    from djworker.db.lease.protocols import RawConnection, RawDriver

#: What libpq calls the settings of a database.
_SETTINGS: Final = {"HOST": "host", "PORT": "port", "USER": "user", "NAME": "dbname"}


class _Plain:
    """[worker] The pool's driver: the library's, without any set-up; the wrapper does that at every checkout."""

    def __init__(self, green: RawDriver, params: Params, demotion: Demotion) -> None:
        self._params = params
        self._green = green
        self._demotion = demotion
        self.suspects: WeakSet[RawConnection] = WeakSet()  # connections on which a write was refused

    def __getattr__(self, name: str) -> Any:
        return getattr(self._green, name)

    def explain(self, error: BaseException) -> str:
        """Say why the server has not let us in."""
        named = {name: self._params.get(key) for name, key in _SETTINGS.items()}
        return str(connect_errors.explain(error, named))

    def connect(self) -> RawConnection:
        """Open."""
        conn = self._green.connect(self._params)
        mind_the_peer(conn.watch.fd)
        if self._green.name == "psycopg2":
            from psycopg2.extras import register_default_jsonb  # noqa: PLC0415 - optional

            register_default_jsonb(
                conn_or_curs=cast("connection", conn), loads=lambda text: text
            )  # as django-db-geventpool does
        try:
            if self._demotion.connected(conn):
                conn.rollback()  # of the question
        except BaseException:
            self._green.forget(conn)
            raise
        return conn

    def reset(self, conn: RawConnection) -> None:
        """Wipe. Raises Useless for a connection whose server refuses writes, if one was refused on it."""
        self._green.reset(conn)
        if conn in self.suspects:
            self.suspects.discard(conn)
            self._demotion.judge(conn)


class GeventPool:
    """[worker] What django-db-geventpool calls a `pool_class`: made with connection parameters, `MAX_CONNS`, `REUSE_CONNS`."""

    green: RawDriver  # the library's driver; set in a subclass per engine

    def __init__(self, **params: Any) -> None:
        most = int(params.pop("MAX_CONNS", MAX_CONNS))
        self._reuse = max(int(params.pop("REUSE_CONNS", most)), 1)
        params["client_encoding"] = "UTF8"
        # A replica's database has the same name.
        name = f"geventpool {params.get('dbname', '')} {params.get('host', '')}".strip()
        self._tickets: dict[RawConnection, int] = {}
        options = _options(most)
        pool_watch: PoolWatch[RawConnection] = PoolWatch(options, self.green)
        self._demotion = Demotion(name, self.green, notify)
        self._driver = _Plain(self.green, params, self._demotion)
        self.inner: Pool[RawConnection] = Pool(
            self._driver,
            Limits(**options.for_pool()),
            name=name,
            refusals=DJANGO,
            notify=notify,
            on_wait=pool_watch.waited,
        )
        pool_watch.pool = self._demotion.pool = self.inner
        register(pool_watch)

    @property
    def size(self) -> int:
        """Connections that there are."""
        return int(self.inner.stats()["pool_size"])

    def get(self) -> RawConnection:
        """Borrow; waits `DJWORKER["POOL"]["timeout"]` seconds at most."""
        label = label_of(getcurrent())
        conn = self.inner.acquire(label=label)
        while self.green.is_broken(conn):
            self.inner.discard(conn)
            conn = self.inner.acquire(label=label)
        self._tickets[conn] = self.inner.ticket(conn)
        return conn

    def put(self, conn: RawConnection) -> None:
        """Give back. What its user left open is ended."""
        ticket = self._tickets.pop(conn, 0)
        if not self.green.busy(conn) and not self.green.is_broken(conn):
            dirty = bool(self.green.in_transaction(conn)) or conn in self._driver.suspects
            if not dirty:
                self.green.set_autocommit(conn, True)
                if self.inner.stats()["pool_available"] >= self._reuse:
                    self.inner.discard(conn, ticket=ticket)
                    return
            self.inner.release(conn, reset=dirty, ticket=ticket)
            return
        self.inner.discard(conn, ticket=ticket)

    def heard(self, error: BaseException | None, conn: Any) -> None:
        """A statement raised this on a connection that is out."""
        if conn in self._tickets and self._demotion.heard(self.green.news(error)):
            self._driver.suspects.add(conn)

    def close(self) -> None:
        """Close what is idle; called when a connection was found closed, which is let go too."""
        for conn, ticket in list(self._tickets.items()):
            if self.green.is_broken(conn):
                del self._tickets[conn]
                self.inner.discard(conn, ticket=ticket)
        self.inner.drain()


class _Errors(DatabaseErrorWrapper):
    """[worker] Django's own, which all errors of a Django connection pass; the pool hears them, too."""

    wrapper: Any  # the Django connection

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc_type is not None:
            self.wrapper.pool.heard(exc_value, self.wrapper.connection)
        super().__exit__(exc_type, exc_value, traceback)


def _options(most: int) -> PoolOptions:
    given = getattr(settings, "DJWORKER", {})
    return for_alias("django-db-geventpool", given, {"max_size": most, "min_size": 0})


def install(engine: str) -> str:
    """Put our pool into this engine of django-db-geventpool; the name of its driver."""
    base = importlib.import_module(f"{engine}.base")
    green = _green(engine)
    base.DatabaseWrapper.pool_class = type("Pool", (GeventPool,), {"green": green})
    base.DatabaseWrapper.wrap_database_errors = property(_Errors)
    return str(green.name)


def _green(engine: str) -> Driver[Any]:
    name = engine.removeprefix(GEVENTPOOL)
    if name == "postgresql_psycopg2" or importlib.util.find_spec("psycopg") is None:
        from djworker.db.drivers.psycopg2 import Psycopg2Driver  # noqa: PLC0415 - one of the two is not installed

        return Psycopg2Driver()
    from djworker.db.drivers.psycopg3 import Psycopg3Driver  # noqa: PLC0415 - one of the two is not installed

    return Psycopg3Driver()

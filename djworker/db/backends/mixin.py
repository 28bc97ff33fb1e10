"""The mixin that puts a lease where Django has a connection.

Where gevent has not patched the process (`migrate`, `shell`, `runserver`, `test`) it does nothing at all: these engines are
Django's own there, with one connection per thread.
"""

from __future__ import annotations

import _thread
import functools
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connections
from django.db.backends.base.base import NO_DB_ALIAS, BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from gevent import monkey

from djworker import log
from djworker.conf import pool_resolve
from djworker.conf.pool_table import PoolOptions
from djworker.db.errors import ServerUnavailable
from djworker.db.lease.cursor import LeasedCursor
from djworker.db.lease.errors import LeaseClosed
from djworker.db.lease.lease import Lease
from djworker.db.lease.leased_pool import LeasedPool, database_of
from djworker.db.lease.raw_connection import LeasedConnection
from djworker.db.lease.receivers import Receivers, meet_before_first_cursor, remove_first_cursors
from djworker.db.lease.registry import leased_pool_for, leased_pools_of
from djworker.db.pool.threads import MAIN_THREAD, thread_id

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from djworker.db.lease.protocols import RawConnection, RawDriver

logger = logging.getLogger("djworker.db")


@functools.cache
def first_aliases() -> frozenset[str]:
    """Those that the settings have when this is first asked. Others come as tenants do, and are not counted."""
    return frozenset(connections.settings)


if settings.configured:  # an engine is being loaded; else the mold asks, once there are settings
    first_aliases()


class Announcer(BaseDatabaseWrapper):
    """[worker] Stands below an engine. For a physical connection of the pool's, the pool calls the receivers itself."""

    announce: Callable[[], None] | None = None

    def connect(self) -> None:
        """Django's own, on an object that is new; but for the signal."""
        if self.announce is None:
            super().connect()
            return
        self.check_settings()
        self.connection = self.get_new_connection(self.get_connection_params())
        self.set_autocommit(True)
        self.init_connection_state()
        self.announce()
        self.run_on_commit = []


class LeasingMixin(BaseDatabaseWrapper):
    """[worker] A Django connection that holds a physical one only while it needs it.

    A *bare* wrapper is Django's own: the pool uses one to set up a physical connection, and so does all code where
    nothing is green. A *native* one is bare, and its connection waits as the library does: in a native thread there is
    nothing but the thread to stop.
    """

    bare = False
    native = False
    _leased_pool: LeasedPool | None = None
    _leased_pool_key: Hashable = None
    facts: dict[str, Any]
    announce: Callable[[], None] | None
    given: dict[str, Any]  # of a bare one: what it connects with when it is bare no longer
    _thread_ident: int  # Django's: of the thread, here the greenlet, that made it

    def __init__(self, settings_dict: dict[str, Any], alias: str = "default") -> None:
        super().__init__(settings_dict, alias=alias)  # PostGIS's looks for it among the keywords
        self.facts = {}
        self.native = not monkey.is_module_patched("socket") or thread_id() != MAIN_THREAD
        if alias == NO_DB_ALIAS or self.native:
            self._strip()
        elif Receivers.any_personal:
            meet_before_first_cursor(self)

    def _strip(self) -> None:
        """Be Django's own. Its pool would be one more, with threads of its own."""
        self.bare = True
        if "pool" in self.settings_dict["OPTIONS"]:
            options = {name: value for name, value in self.settings_dict["OPTIONS"].items() if name != "pool"}
            self.settings_dict = {**self.settings_dict, "OPTIONS": options}

    def green_driver(self) -> RawDriver:
        """The driver for this engine's client library."""
        raise NotImplementedError

    # -- the pool -----------------------------------------------------------------------------------------------------

    @property
    def leased_pool(self) -> LeasedPool:
        """Our pool: that of our alias and parameters, as they are now (a test run changes the name of the database)."""
        known = self.settings_dict
        key = (
            self.alias,
            known["NAME"],
            known["HOST"],
            known["PORT"],
            known["USER"],
            str(known["OPTIONS"]) if known["OPTIONS"] else "",
            self.timezone_name,  # PostgreSQL's sessions are set up with it
            type(self),
        )
        if key != self._leased_pool_key or self._leased_pool is None or self._leased_pool.ended:
            self._leased_pool = leased_pool_for(key, self._make_leased_pool)
            self._leased_pool_key = key
            self.facts = self._leased_pool.facts
        if self._leased_pool.password != known["PASSWORD"]:
            self._leased_pool.log_in_with(self._pool_settings(), self.settings_dict)
        return self._leased_pool

    def warm_pool(self) -> None:
        """Begin to open the connections that our pool keeps, if it keeps any. Does not wait."""
        if not self.bare and self._pool_options().min_size:
            self.leased_pool.pool.warm()

    def _pool_options(self) -> PoolOptions:
        given = getattr(settings, "DJWORKER", {})
        return pool_resolve.for_alias(self.alias, given, self.settings_dict["OPTIONS"].get("pool"))

    def _make_leased_pool(self) -> LeasedPool:
        options = self._pool_options()
        cls, alias = type(self), self.alias
        leased_pool: list[LeasedPool] = []

        def make(settings_dict: dict[str, Any]) -> LeasingMixin:
            wrapper = cls(settings_dict, alias)
            wrapper.bare = True
            remove_first_cursors(wrapper)
            wrapper.given = leased_pool[0].given
            wrapper.facts = leased_pool[0].facts
            return wrapper

        green = _unblocked(self.green_driver(), alias)
        leased_pool.append(LeasedPool(alias, options, green, make, self._pool_settings(), self._family()))
        leased_pool[0].given = self.settings_dict
        if name := leased_pool[0].client_library.door_name:
            LeasedConnection.__name__ = name
        return leased_pool[0]

    def join_pool(self) -> None:
        """The physical connection is the pool's now. A receiver may have kept this object: it leases, like any other."""
        self.connection = self.announce = None
        self.settings_dict = self.given
        self.bare = False

    def _pool_settings(self) -> dict[str, Any]:
        """Ours, as they are now, for connections of the pool."""
        plain = {name: value for name, value in self.settings_dict["OPTIONS"].items() if name != "pool"}
        return {**self.settings_dict, "OPTIONS": plain, "AUTOCOMMIT": True, "CONN_MAX_AGE": None}

    def _family(self) -> tuple[object, ...]:
        """Whose pools share a bound: all of an alias, whatever its settings become; of aliases that came later, the server's."""
        if self.alias in first_aliases():
            return (self.alias,)
        return (self.vendor, *(self.settings_dict[name] for name in ("HOST", "PORT", "USER")))

    def close_pool(self) -> None:
        """Replace all connections to our database, those of other aliases and options too.

        Django asks for it before it drops or clones a test database, and when the time zone changes.
        """
        if not self.bare:
            for leased_pool in leased_pools_of(database_of(self.settings_dict)):
                leased_pool.refresh()

    # -- connecting -----------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """A lease costs nothing. The first one of a pool opens a connection, so that wrong settings show here."""
        if self.bare:
            super().connect()
            return
        self.check_settings()
        self.in_atomic_block = False
        self.savepoint_ids = []
        self.atomic_blocks = []
        self.needs_rollback = False
        self.health_check_enabled = False
        self.health_check_done = True
        self.close_at = None
        self.closed_in_transaction = False
        self.errors_occurred = False
        leased_pool = self.leased_pool
        lease = Lease(leased_pool)
        receivers = leased_pool.receivers
        if receivers.number != len(connection_created.receivers) and receivers.are_late(type(self)):
            leased_pool.refresh()
        if not leased_pool.proved:  # nothing has ever connected, or nothing does now
            _prove(lease)
        lease.autocommit_mode = self.autocommit = self.settings_dict["AUTOCOMMIT"]
        self.connection = LeasedConnection(lease)
        self.run_on_commit = []
        for _ in range(self.sticky_depth):
            lease.stick()
        if self.greeted != len(receivers.personal):
            self._meet_receivers(leased_pool)

    sticky_depth = 0
    greeted = 0  # so many of the pool's `personal` receivers have been called with us

    def _meet_receivers(self, leased_pool: LeasedPool) -> None:
        """Receivers of `connection_created` that change the Django connection change ours. Once, for it is kept."""
        number = len(leased_pool.receivers.personal)
        remove_first_cursors(self)
        try:
            leased_pool.receivers.greet(self, self.greeted)
        except BaseException:
            self.connection = None  # what they guard must not be used without them
            raise
        self.greeted = number

    @property
    def lease(self) -> Lease | None:
        """Our lease, if Django is connected."""
        connection = self.connection
        return connection.lease if type(connection) is LeasedConnection else None

    def create_cursor(self, name: str | None = None) -> Any:
        """A cursor that takes a connection when it executes."""
        connection = self.connection
        if type(connection) is LeasedConnection:
            lease = connection.lease
            if lease.closed and not name and lease.leased_pool.client_library.refuses_cursors:
                raise LeaseClosed("the connection is closed")
            if lease.leased_pool.password != self.settings_dict["PASSWORD"]:
                lease.leased_pool.log_in_with(self._pool_settings(), self.settings_dict)
            return LeasedCursor(self, lease, name)
        return self.bare_cursor(name)

    def bare_cursor(self, name: str | None = None) -> Any:
        """Django's own cursor, on the physical connection that stands in `self.connection`."""
        return super().create_cursor(name) if name else super().create_cursor()

    def raw_cursor(self, conn: RawConnection, name: str | None) -> Any:
        """Django's own cursor on this physical connection. Does not switch greenlets, so that the exchange is not seen."""
        lease, self.connection = self.connection, conn
        try:
            return self.bare_cursor(name)
        finally:
            self.connection = lease

    @contextmanager
    def physical(self) -> Iterator[None]:
        """A physical connection stands in `self.connection`, to be looked at. No statements, no switching."""
        connection = self.connection
        if connection is None:
            self.ensure_connection()
            connection = self.connection
        if type(connection) is not LeasedConnection:
            yield
            return
        self.connection = connection.lease.look()
        try:
            yield
        finally:
            self.connection = connection

    def validate_thread_sharing(self) -> None:
        """Django's takes a lock before it compares, and under gevent a lock is written in Python."""
        if self._thread_ident != _thread.get_ident():
            super().validate_thread_sharing()

    # -- transactions -----------------------------------------------------------------------------------------------------

    def _set_autocommit(self, autocommit: bool) -> None:  # noqa: FBT001 - Django's shape
        lease = self.lease
        if lease is not None:
            with self.wrap_database_errors:
                lease.set_autocommit(autocommit)
        else:
            super()._set_autocommit(autocommit)  # type: ignore[misc]  # private, so not in the stubs

    # -- the end of a request ---------------------------------------------------------------------------------------------

    def _close(self) -> None:
        lease = self.lease
        if lease is not None:
            lease.close()
        else:
            super()._close()  # type: ignore[misc]  # likewise

    def close_if_unusable_or_obsolete(self) -> None:
        """The end of a request: `CONN_MAX_AGE` is the pool's business."""
        if self.bare:
            super().close_if_unusable_or_obsolete()
        elif self.connection is not None:
            self.close()

    def is_usable(self) -> bool:
        """Honest: TestCase asks in an aborted transaction."""
        lease = self.lease
        if lease is not None:
            return lease.alive()
        return bool(super().is_usable())


def _unblocked(driver: RawDriver, alias: str) -> RawDriver:
    """The driver; where it was loaded too early the log says so, for the checks do not run under gunicorn or Celery."""
    if why := driver.blocks_hub():
        message = f"djworker.E025: database {alias!r} stops the whole process whenever it connects: {why}"
        log.event(logger, logging.WARNING, "driver_blocks", message, alias=alias)
    return driver


def _prove(lease: Lease) -> None:
    """Connect once. Wrong settings (a role that does not exist, an isolation level) are told as Django tells them."""
    try:
        lease.take()
    except ServerUnavailable as refusal:
        cause = refusal.__cause__
        if cause is None or isinstance(cause, OperationalError | InterfaceError | OSError):
            raise
        if isinstance(cause, DatabaseError) and cause.__cause__ is not None:
            cause = cause.__cause__  # the library's: the caller of connect() wraps it, or does not
        raise cause from None
    lease.release_if_free()

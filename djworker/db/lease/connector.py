"""The pool's driver: physical connections, made and set up by Django's own code, once each."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connections

from djworker.db.drivers import connect_errors
from djworker.db.drivers.news import logged_in, was_logged_in
from djworker.db.drivers.sockets import mind_the_peer
from djworker.db.lease.session_record import SessionRecord
from djworker.db.lease.tape import Tape
from djworker.db.pool.driver import Useless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper

    from djworker.db.lease.protocols import Bare, RawConnection, RawDriver
    from djworker.db.lease.receivers import Receivers
    from djworker.db.lease.tape import Statement


class Connector:
    """[worker] See `djworker.db.pool.driver.PoolDriver`.

    The pool connects and resets in greenlets of its own, perhaps after the request that wanted it is gone. So a request's
    Django wrapper is never used for it (nor kept by the pool): a new, bare one of the same class does it, and for that
    moment it *is* `connections[alias]`, so that receivers of `connection_created` cannot ask the pool for a second one.
    """

    def __init__(
        self,
        make: Callable[[], Bare],
        alias: str,
        green: RawDriver,
        on_connected: Callable[[RawConnection], None],
        judge: Callable[[RawConnection], None],
        receivers: Receivers,
    ) -> None:
        """make: a bare wrapper; green: the library's `Driver`; on_connected: told of each connection that has been set up.

        judge: told of each that was wiped, before its set-up; raises Useless for one that shall not be used again.
        """
        self._make = make
        self._alias = alias
        self._on_connected = on_connected
        self._judge = judge
        self._receivers = receivers
        self.green = green
        self.close = green.close
        self.check = green.check
        self.is_broken = green.is_broken
        self.busy = green.busy
        self.cancel = green.cancel
        self.forget = green.forget

    def connect(self) -> RawConnection:
        """Open, set up, `connection_created`."""
        wrapper, tape = self._make(), Tape()
        wrapper.announce = lambda: self._receivers.announce(_of_django(wrapper), tape)
        with self._as_current(wrapper):
            try:
                wrapper.ensure_connection()
                conn: RawConnection = wrapper.connection
                _is_green(conn, wrapper)
                mind_the_peer(conn.watch.fd)
                conn.lease_record = SessionRecord(tape)
                with wrapper.wrap_database_errors:
                    self._on_connected(conn)
            except BaseException as error:
                if wrapper.connection is not None:
                    logged_in(error)
                    self.green.forget(wrapper.connection)
                raise
        wrapper.join_pool()
        return conn

    def reset(self, conn: RawConnection) -> None:
        """Forget the session, then Django's set-up and the receivers' statements again.

        Raises:
            OperationalError: for what no reset undoes.
            Useless: for a session that a receiver has set up past Django, so that nothing can set it up again.
        """
        record: SessionRecord = conn.lease_record
        if record.spoilt:
            raise OperationalError(f"a session can only be replaced after {record.spoilt}")
        if record.setup.beyond:
            raise Useless(record.setup.beyond)
        self.green.reset(conn)
        # Here and not in the lease: the pool also resets what a dead greenlet has left, and no lease knows of that.
        record.wiped()
        self._judge(conn)
        wrapper = self._make()
        wrapper.get_connection_params()  # MySQL's notes the isolation level in it
        wrapper.connection = conn
        vars(wrapper)["make_debug_cursor"] = (
            wrapper.make_cursor
        )  # no request has asked for it: it is in no request's SQL log
        try:
            with wrapper.wrap_database_errors:
                wrapper.set_autocommit(True)
                wrapper.init_connection_state()
            _repeat(wrapper, record.setup.statements)
        finally:
            wrapper.connection = None

    def explain(self, error: BaseException) -> str:
        """Say why the server has not let us in. See `djworker.db.drivers.connect_errors`."""
        known: Mapping[str, Any] = connections.settings
        return str(connect_errors.explain(error, known.get(self._alias, {}), self._alias))

    def ended_by_hand(self, error: BaseException) -> bool:
        """Django wraps the library's error, or does not; we note what we know on the outer one."""
        inner = error.__cause__ if isinstance(error.__cause__, self.green.error) else error
        if not was_logged_in(error):
            return bool(self.green.ended_by_hand(inner))
        logged_in(inner)
        return isinstance(inner, OSError) or bool(self.green.ended_by_hand(inner))  # the socket may be closed already

    @contextmanager
    def _as_current(self, wrapper: Bare) -> Iterator[None]:
        known: Mapping[str, Any] = connections.settings
        if self._alias not in known:
            yield
            return
        connections[self._alias] = _of_django(wrapper)
        try:
            yield
        finally:
            del connections[self._alias]


def _of_django(wrapper: Bare) -> BaseDatabaseWrapper:
    return cast("BaseDatabaseWrapper", wrapper)


def _is_green(conn: RawConnection, wrapper: Bare) -> None:
    """An engine built on Django's may make its connections in a way of its own."""
    if not hasattr(conn, "watch"):
        engine = type(wrapper)
        raise ImproperlyConfigured(
            f"{engine.__module__}.{engine.__qualname__}.get_new_connection() gives {type(conn).__qualname__}, with which a pool"
            f" cannot wait: give what super().get_new_connection() gives, or name Django's own engine for {wrapper.alias!r}"
        )


def _repeat(wrapper: Bare, statements: Sequence[Statement]) -> None:
    """Run what the receivers of `connection_created` have run: they are not called again for the same client object."""
    for statement in statements:
        with wrapper.cursor() as cursor:
            getattr(cursor, statement.method)(*statement.args, **statement.more)

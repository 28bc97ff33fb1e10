"""psycopg 3, waiting in gevent's hub on a watcher that belongs to the connection."""

from __future__ import annotations

import itertools
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final

import psycopg
from gevent.lock import Semaphore
from psycopg import capabilities, waiting
from psycopg.pq import ConnStatus, ExecStatus, PipelineStatus, TransactionStatus

from djworker.conf.pool_table import CONNECT_TIMEOUT
from djworker.db.drivers import offload, postgres
from djworker.db.drivers.base import CANCEL_TIMEOUT, ENDING_TIMEOUT, Driver, Params
from djworker.db.drivers.plans import Plans, Prepared
from djworker.db.drivers.sockets import cut_loose, until_gone
from djworker.db.drivers.turns import at_most
from djworker.db.drivers.watch import READ, Watch
from djworker.deadlines import RequestEnded

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from psycopg.abc import PQGen

    from djworker.db.drivers.news import News

ACTIVE: Final = TransactionStatus.ACTIVE
BAD: Final = ConnStatus.BAD
_NONE: deque[object] = deque()
_resets = itertools.count(1)
_COPYING: Final = frozenset({ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH})


class PsycopgConnection(psycopg.Connection[Any]):
    """[worker] A psycopg connection whose waits cost one hub switch, however long they last.

    psycopg's own wait wakes up every 100 ms to let Ctrl-C through: a hundred waiting greenlets take 7 % of a core. All
    of its waits but those of connect and cancel go through `Connection.wait`, so this is the seam.
    """

    _watch: Watch | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # gevent's stand-in for threading.Lock is written in Python; this one is compiled, and taken once per query.
        self.lock = Semaphore(1)  # type: ignore[assignment]
        self._prepared = Prepared(self)

    def wait(self, gen: PQGen[Any], interval: float | None = None, timeout: float | None = None) -> Any:
        """Run the generator to its end. With a limit of time (`notifies(timeout=…)`) psycopg's own wait does it."""
        if interval is not None or timeout is not None:
            limits = {"interval": interval, "timeout": timeout}
            return super().wait(gen, **{name: value for name, value in limits.items() if value is not None})
        wait, pgconn = (self._watch or self.watch).wait, self.pgconn
        events: Any = None
        try:
            events = next(gen)
            while True:
                # Libpq closes its socket when it finds the session ended, and nothing is ever heard on that again:
                # psycopg's own wait looks every 100 ms whether it is still there.
                if pgconn.status == BAD:
                    events = gen.throw(psycopg.OperationalError("the connection is lost"))
                else:
                    events = gen.send(wait(events))
        except StopIteration as done:
            return done.value
        except RequestEnded:
            if pgconn.transaction_status == ACTIVE and pgconn.pipeline_status == PipelineStatus.OFF:
                self._end_statement(gen, events)
            raise

    def _end_statement(self, gen: PQGen[Any], events: Any) -> None:
        """Have the server end the statement, and hear of it; psycopg does the same at Ctrl-C.

        The connection is at rest afterwards, or ACTIVE still, or closed. It is at rest only where the statement's own error said
        that it was cancelled: any other end of it was faster than the cancel. See `djworker.db.drivers.postgres`.
        """
        with suppress(psycopg.Error, StopIteration), at_most(ENDING_TIMEOUT):
            self.ask_to_cancel(ENDING_TIMEOUT)
            try:
                while True:
                    events = gen.send(self.watch.wait(events))
            except psycopg.errors.QueryCanceled:
                return
        if self.pgconn.transaction_status != ACTIVE:
            self.close()

    def ask_to_cancel(self, timeout: float) -> None:
        """Ask on a second line, as PostgreSQL wants it; return when the server has hung up there."""
        if capabilities.has_cancel_safe():
            self.cancel_safe(timeout=timeout)
        else:
            offload.apply(self.cancel)  # libpq before 17 connects for it in blocking mode

    @property
    def watch(self) -> Watch:
        """The watchers of the connection's socket."""
        if self._watch is None:
            self._watch = Watch(self.pgconn.socket)
        return self._watch

    def close(self) -> None:
        """Close; a greenlet that waits on the connection gets an OperationalError."""
        if self._watch is not None:
            self._watch.close(psycopg.OperationalError("the connection was closed by another greenlet"))
        super().close()


class Psycopg3Driver(Driver[PsycopgConnection]):
    """[worker] See `Driver`. Prepared statements stay with their connection."""

    name = "psycopg"
    connection_type = PsycopgConnection
    info_type = psycopg.ConnectionInfo
    states: ClassVar[Mapping[str, Callable[[Any], object]]] = {
        "transaction_status": TransactionStatus,
        "pipeline_status": PipelineStatus,
        "status": ConnStatus,
    }
    error = psycopg.Error

    def blocks_hub(self) -> str:
        """Psycopg chooses its wait functions when it is imported."""
        selector = waiting.DefaultSelector  # type: ignore[attr-defined]  # imported there, and not exported
        if waiting.wait is getattr(waiting, "wait_c", None) or "gevent" not in selector.__module__:
            return "psycopg was imported before gevent patched the standard library"
        return ""

    def connect(self, params: Params) -> PsycopgConnection:
        """Names are resolved and every address is tried in the hub, each within `connect_timeout` (default 10 s)."""
        try:
            return PsycopgConnection.connect(**{"connect_timeout": CONNECT_TIMEOUT, **params})
        except BaseException as error:  # noqa: BLE001 - raised again at once
            # A killed greenlet is often kept with its exception, whose frames would keep the half-made connection open.
            raise error.with_traceback(None)  # noqa: B904 - it is the same error

    def close(self, conn: PsycopgConnection) -> None:
        """See `Driver`."""
        if conn.closed:
            conn.close()
            return
        with until_gone(conn.pgconn.socket):
            conn.close()

    def check(self, conn: PsycopgConnection) -> None:
        """An empty query."""
        conn.execute("", prepare=False)
        if not conn.autocommit:
            conn.rollback()

    def is_closed(self, conn: PsycopgConnection) -> bool:
        """See `Driver`."""
        return conn.closed

    def is_broken(self, conn: PsycopgConnection) -> bool:
        """See `Driver`. An idle server says nothing but that it goes away, or that its configuration has changed."""
        if conn.closed:
            return True
        return conn.pgconn.transaction_status != ACTIVE and conn.watch.readable()

    def busy(self, conn: PsycopgConnection) -> bool:
        """See `Driver`."""
        return conn.pgconn.transaction_status == ACTIVE

    def occupied(self, conn: PsycopgConnection) -> bool:
        """Psycopg's lock knows no owner: who has it would wait for itself."""
        return bool(conn.lock.locked()) or self.busy(conn)

    def cancel(self, conn: PsycopgConnection) -> None:
        """Ask on a second line, as PostgreSQL wants it, then read what was left unread."""
        with suppress(psycopg.errors.CancellationTimeout), at_most(CANCEL_TIMEOUT):
            conn.ask_to_cancel(CANCEL_TIMEOUT)
            self._drain(conn)

    @staticmethod
    def _drain(conn: PsycopgConnection) -> None:
        pgconn = conn.pgconn
        while pgconn.transaction_status == ACTIVE:
            pgconn.flush()
            while pgconn.is_busy():
                conn.watch.wait(READ)
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is not None and result.status in _COPYING:
                return  # only the client can end it, by closing

    def reset(self, conn: PsycopgConnection) -> None:
        """`DISCARD ALL`. It takes the prepared statements along; psycopg notices and prepares them again."""
        conn.rollback()
        conn.autocommit = True
        # psycopg takes notice of a DISCARD only the first time it sees the text, and prepares a text that comes often.
        conn.execute(f"DISCARD ALL /* {next(_resets)} */", prepare=False)
        # Notifications that came between statements wait there for the next that asks (psycopg 3.2.4 and later).
        (getattr(conn, "_notifies_backlog", None) or _NONE).clear()

    def forget(self, conn: PsycopgConnection) -> None:
        """See `Driver`."""
        with suppress(Exception):
            if not conn.closed:
                cut_loose(conn.pgconn.socket)
            conn.close()

    def in_transaction(self, conn: PsycopgConnection) -> bool:
        """See `Driver`."""
        status = conn.pgconn.transaction_status
        return status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)

    def in_failed_transaction(self, conn: PsycopgConnection) -> bool:
        """See `Driver`."""
        return conn.pgconn.transaction_status == TransactionStatus.INERROR

    def autocommit(self, conn: PsycopgConnection) -> bool:
        """See `Driver`."""
        return conn.autocommit

    def set_autocommit(self, conn: PsycopgConnection, value: bool) -> None:  # noqa: FBT001 - the shape of every library's own setter
        """Never a round trip: psycopg only remembers whether to send BEGIN."""
        if conn.autocommit is not value:
            conn.autocommit = value

    def backend_id(self, conn: PsycopgConnection) -> int:
        """See `Driver`."""
        return conn.info.backend_pid

    def ended_by_hand(self, error: BaseException) -> bool:
        """See `Driver`."""
        return isinstance(error, psycopg.Error) and postgres.was_ended(error.sqlstate, error)

    def news(self, error: BaseException | None) -> News | None:
        """See `Driver`."""
        return postgres.news_of(error.sqlstate, error.diag) if isinstance(error, psycopg.Error) else None

    def plans(self, resolution: Callable[[PsycopgConnection], Hashable]) -> Plans:
        """See `Driver`."""
        return Plans(resolution)

    def share_plans(self, conn: PsycopgConnection, plans: object) -> None:
        """See `Driver`."""
        prepared = conn._prepared  # noqa: SLF001 - psycopg has no seam for it
        if isinstance(prepared, Prepared) and isinstance(plans, Plans):
            prepared.share(plans)

    def stale_plan(self, conn: PsycopgConnection) -> None:
        """See `Driver`."""
        prepared = conn._prepared  # noqa: SLF001 - psycopg has no seam for it
        if isinstance(prepared, Prepared):
            prepared.refused()

    def refuses_writes(self, conn: PsycopgConnection) -> bool:
        """See `Driver`."""
        row = conn.execute(postgres.REFUSES_WRITES, prepare=False).fetchone()
        return bool(row and row[0])

    def command_tags(self, cursor: Any) -> tuple[str, ...]:
        """One tag per statement of the last `execute()`, when they came in one string."""
        results = getattr(cursor, "_results", None) or ()
        if len(results) > 1:
            return tuple((result.command_status or b"").decode("ascii", "replace") for result in results)
        tag = cursor.statusmessage
        return (tag,) if tag else ()

"""psycopg2, made green by psycogreen, with a connect time-out and a server-side cancel beside it."""

from __future__ import annotations

import ctypes
import functools
import ipaddress
import os
import weakref
from collections.abc import ValuesView
from contextlib import closing, suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import gevent
import psycopg2
from gevent import socket
from psycogreen.gevent import gevent_wait_callback, patch_psycopg
from psycopg2 import extensions

from djworker.conf.pool_table import CONNECT_TIMEOUT
from djworker.db.drivers import offload, postgres, psycopg2_functions
from djworker.db.drivers.base import CANCEL_TIMEOUT, ENDING_TIMEOUT, Driver, Params
from djworker.db.drivers.sockets import cut_loose, read_to_end, until_gone
from djworker.db.drivers.turns import at_most
from djworker.db.drivers.watch import Watch
from djworker.deadlines import RequestEnded

if TYPE_CHECKING:
    from djworker.db.drivers.news import News

NOTICES: Final = 50  # as psycopg2 itself
ACTIVE: Final = extensions.TRANSACTION_STATUS_ACTIVE
#: Types whose values psycopg2 quotes, or writes as numbers: nearly all that there are.
_QUOTED: Final = frozenset({str, int, float, bool, bytes, type(None), Decimal, date, datetime, time, timedelta})
_ERROR_LENGTH: Final = 256  # what libpq asks for in PQcancel's buffer


def install() -> None:
    """Make psycopg2 green: psycogreen's patch, then our guard around its callback."""
    patch_psycopg()
    extensions.set_wait_callback(wait_callback)
    psycopg2_functions.install()


def wait_callback(conn: extensions.connection) -> None:
    """Psycogreen's wait, which leaves us the means to stop the query when the greenlet is killed in it.

    psycopg2 closes the connection when its callback raises. The server does not notice while it works, and the key to
    stop it would be gone.
    """
    try:
        gevent_wait_callback(conn)
    except RequestEnded as ended:
        if isinstance(conn, Psycopg2Connection):
            if conn.end_statement(ended):
                return  # and the library raises the server's error: see `Driver.ended`
            conn.abandon()
        raise
    except BaseException:
        if isinstance(conn, Psycopg2Connection):
            conn.abandon()
        raise


class Abandoned:
    """[worker] What is left of a connection that was closed in mid-query: the key to cancel it, and a line to hear its end."""

    def __init__(self, conn: extensions.connection) -> None:
        self._key = _libpq().PQgetCancel(conn.pgconn_ptr)
        self.line = socket.socket(fileno=os.dup(conn.fileno()))

    def cancel(self) -> None:
        """Tell the server. Blocks: for a native thread. ctypes lets go of the GIL, psycopg2's own `cancel()` does not.

        The key is the thread's from then on, because a greenlet that waits for the thread may give up first.
        """
        key, self._key = self._key, None
        if not key:
            return
        message = ctypes.create_string_buffer(_ERROR_LENGTH)
        try:
            if not _libpq().PQcancel(key, message, _ERROR_LENGTH):
                raise psycopg2.OperationalError(message.value.decode(errors="replace"))
        finally:
            _libpq().PQfreeCancel(key)

    def close(self) -> None:
        """Free both."""
        key, self._key = self._key, None
        if key:
            _libpq().PQfreeCancel(key)
        self.line.close()


class Notices(list[str]):
    """[worker] What psycopg2 keeps of the server's notices, for one turn on the connection: the next one's replace them."""

    def __init__(self, conn: Psycopg2Connection) -> None:
        super().__init__()
        self._conn = weakref.ref(conn)
        self.turn = 0

    def append(self, notice: str) -> None:
        """Called by psycopg2, which keeps as many."""
        turn = getattr(getattr(self._conn(), "lease_record", None), "turn", 0)
        if turn != self.turn:
            self.clear()
            self.turn = turn
        super().append(notice)
        del self[:-NOTICES]

    def hand_over(self, turns: tuple[int, ...]) -> None:
        """Code is about to see them, in the last of these turns: those of any others are not for it."""
        if self.turn not in turns:
            self.clear()
        self.turn = turns[-1]


class Psycopg2Connection(extensions.connection):
    """[worker] A psycopg2 connection that remembers how it was abandoned."""

    if TYPE_CHECKING:
        lease_record: Any

    abandoned: Abandoned | None = None
    #: What the error stands for that the library is about to raise, and the turn on the connection.
    ended_by: tuple[BaseException, int] | None = None
    _watch: Watch | None = None

    @property
    def watch(self) -> Watch:
        """A look at the connection's socket; the waiting is psycogreen's."""
        if self._watch is None:
            self._watch = Watch(self.fileno())
        return self._watch

    def end_statement(self, ended: BaseException) -> bool:
        """Have the server end the statement, and hear of it. Whether the library has an error to raise now.

        Only for statements of a lease, which raises `ended` in the error's place: code behind the connection would get the error.
        """
        record = getattr(self, "lease_record", None)
        if record is None or record.spoilt or self.get_transaction_status() != ACTIVE:
            return False
        with suppress(psycopg2.Error), at_most(ENDING_TIMEOUT), closing(Abandoned(self)) as key:
            offload.apply(key.cancel)
            gevent_wait_callback(self)
            if has_error(self):
                self.ended_by = ended, record.turn
                return True
        return False

    def abandon(self) -> None:
        """Keep the key of the running query. Must not raise: an exception is under way."""
        with suppress(Exception):
            if self.abandoned is None and self.get_transaction_status() == ACTIVE:
                self.abandoned = Abandoned(self)


def spliced(params: object) -> str:
    """Of the parameters, SQL that psycopg2 puts into the statement as it is (`AsIs`): the text alone does not tell of it."""
    values = params.values() if isinstance(params, dict) else params
    if not isinstance(values, list | tuple | ValuesView):
        return ""
    return " ".join(_as_is(value) for value in values if type(value) not in _QUOTED)


def _as_is(value: object) -> str:
    kind = type(value)
    if isinstance(value, list | tuple):
        return spliced(value)
    own = hasattr(kind, "getquoted") and not kind.__module__.startswith(("psycopg2", "django."))
    if (
        own
        or isinstance(value, extensions.AsIs)
        or extensions.adapters.get((kind, extensions.ISQLQuote)) is extensions.AsIs
    ):
        return str(value)
    return ""


class Psycopg2Driver(Driver[Psycopg2Connection]):
    """[worker] See `Driver`. Without COPY and large objects: psycopg2 refuses them under any green library."""

    name = "psycopg2"
    connection_type = Psycopg2Connection
    info_type = extensions.ConnectionInfo
    last_tag_only = True
    spliced = staticmethod(spliced)
    error = psycopg2.Error

    def connect(self, params: Params) -> Psycopg2Connection:
        """Connect within `connect_timeout` seconds, all addresses together. libpq's own is void in green mode."""
        install()
        # In the start-up packet, so that DISCARD ALL comes back to it.
        wanted = {"client_encoding": "UTF8", **params, "connection_factory": _factory(params.get("connection_factory"))}
        seconds = float(wanted.get("connect_timeout") or CONNECT_TIMEOUT)
        limit = gevent.Timeout(seconds)
        try:
            with limit:
                conn: Psycopg2Connection = psycopg2.connect(**_resolved(wanted))
        except gevent.Timeout as overrun:
            if overrun is not limit:
                raise overrun.with_traceback(None)  # noqa: B904 - its frames would keep the half-made connection open
            raise psycopg2.OperationalError(f"connection timeout expired: no answer in {seconds:g} s") from None
        except BaseException as error:  # noqa: BLE001 - raised again at once
            raise error.with_traceback(None)  # noqa: B904 - likewise
        conn.notices = Notices(conn)
        return conn

    def close(self, conn: Psycopg2Connection) -> None:
        """See `Driver`."""
        self._let_go(conn)
        if conn.closed:
            return
        with until_gone(conn.fileno()):
            conn.close()

    @staticmethod
    def _let_go(conn: Psycopg2Connection) -> None:
        abandoned, conn.abandoned = conn.abandoned, None
        if abandoned is not None:
            abandoned.close()

    def check(self, conn: Psycopg2Connection) -> None:
        """One trivial query; an empty one is an error to psycopg2."""
        with conn.cursor() as cursor:
            cursor.execute("SELECT 1")
        if not conn.autocommit:
            conn.rollback()

    def is_closed(self, conn: Psycopg2Connection) -> bool:
        """See `Driver`."""
        return bool(conn.closed)

    def is_broken(self, conn: Psycopg2Connection) -> bool:
        """See `Driver`."""
        if conn.closed:
            return True
        status = conn.get_transaction_status()
        unknown: int = extensions.TRANSACTION_STATUS_UNKNOWN
        return status == unknown or (status != ACTIVE and conn.watch.readable())

    def busy(self, conn: Psycopg2Connection) -> bool:
        """See `Driver`. A killed query leaves a closed connection, and its backend at work."""
        if conn.closed:
            return conn.abandoned is not None
        return conn.get_transaction_status() == ACTIVE

    def cancel(self, conn: Psycopg2Connection) -> None:
        """See `Driver`."""
        if conn.abandoned is None and not conn.closed:
            conn.abandon()
        abandoned = conn.abandoned
        if abandoned is not None:
            with at_most(CANCEL_TIMEOUT):
                offload.apply(abandoned.cancel)
            # With our good-bye already sent, the backend ends when it has stopped the query.
            if conn.closed:
                read_to_end(abandoned.line, CANCEL_TIMEOUT)

    def ended(self, conn: Psycopg2Connection, error: BaseException | None) -> BaseException | None:
        """See `Driver`. An error of another kind was faster than the cancel."""
        (ended, turn), conn.ended_by = conn.ended_by or (None, 0), None
        if ended is None or turn != conn.lease_record.turn:
            return super().ended(conn, error)
        if not isinstance(error, extensions.QueryCanceledError):
            conn.close()
        return ended

    def reset(self, conn: Psycopg2Connection) -> None:
        """`DISCARD ALL`, and psycopg2's own needs again where the server's defaults do not meet them."""
        conn.rollback()
        conn.autocommit = True
        with conn.cursor() as cursor:
            if self.in_transaction(conn):  # by a BEGIN of the application's, which psycopg2 does not know of
                cursor.execute("ROLLBACK")
            cursor.execute("DISCARD ALL")
        conn.notices.clear()
        conn.notifies.clear()
        if not (conn.get_parameter_status("DateStyle") or "").startswith("ISO"):
            conn.reset()

    def forget(self, conn: Psycopg2Connection) -> None:
        """See `Driver`."""
        with suppress(Exception):
            if not conn.closed:
                cut_loose(conn.fileno())
                conn.close()
        with suppress(Exception):
            self._let_go(conn)

    def in_transaction(self, conn: Psycopg2Connection) -> bool:
        """See `Driver`."""
        if conn.closed:
            return False
        status = conn.get_transaction_status()
        return status in (extensions.TRANSACTION_STATUS_INTRANS, extensions.TRANSACTION_STATUS_INERROR)

    def in_failed_transaction(self, conn: Psycopg2Connection) -> bool:
        """See `Driver`."""
        inerror: int = extensions.TRANSACTION_STATUS_INERROR
        return not conn.closed and conn.get_transaction_status() == inerror

    def autocommit(self, conn: Psycopg2Connection) -> bool:
        """See `Driver`."""
        return conn.autocommit

    def set_autocommit(self, conn: Psycopg2Connection, value: bool) -> None:  # noqa: FBT001 - the shape of every library's own setter
        """Never a round trip: psycopg2 only remembers whether to send BEGIN."""
        if conn.autocommit is not value:
            conn.autocommit = value

    def backend_id(self, conn: Psycopg2Connection) -> int:
        """See `Driver`."""
        return conn.info.backend_pid

    def ended_by_hand(self, error: BaseException) -> bool:
        """See `Driver`."""
        return isinstance(error, psycopg2.Error) and postgres.was_ended(error.pgcode, error)

    def news(self, error: BaseException | None) -> News | None:
        """See `Driver`."""
        return postgres.news_of(error.pgcode, error.diag) if isinstance(error, psycopg2.Error) else None

    def refuses_writes(self, conn: Psycopg2Connection) -> bool:
        """See `Driver`."""
        with conn.cursor() as cursor:
            cursor.execute(postgres.REFUSES_WRITES)
            row = cursor.fetchone()
        return bool(row and row[0])

    def command_tags(self, cursor: Any) -> tuple[str, ...]:
        """The last statement's tag: psycopg2 keeps no other."""
        tag = cursor.statusmessage
        return (tag,) if tag else ()


@functools.cache
def _factory(wanted: type[extensions.connection] | None) -> type[Psycopg2Connection]:
    """The class for connections when the settings ask for one of their own."""
    if wanted is None or issubclass(Psycopg2Connection, wanted):
        return Psycopg2Connection
    return type(f"Green{wanted.__name__}", (Psycopg2Connection, wanted), {})


def has_error(conn: Psycopg2Connection) -> bool:
    """Whether the answer that libpq has read, and not given yet, is an error."""
    return bool(_libpq().PQerrorMessage(conn.pgconn_ptr))


@functools.cache
def _libpq() -> Any:
    """The libpq that psycopg2 is linked with; `dlsym` finds it through the extension module."""
    library = ctypes.CDLL(psycopg2._psycopg.__file__)  # noqa: SLF001 - the only name of the shared library
    library.PQgetCancel.argtypes = [ctypes.c_void_p]
    library.PQgetCancel.restype = ctypes.c_void_p
    library.PQcancel.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    library.PQfreeCancel.argtypes = [ctypes.c_void_p]
    library.PQfreeCancel.restype = None
    library.PQerrorMessage.argtypes = [ctypes.c_void_p]
    library.PQerrorMessage.restype = ctypes.c_char_p
    return library


def _resolved(params: Params) -> Params:
    """The parameters with the addresses of each host beside its name: libpq would look them up with the hub stopped."""
    hosts = [host for host in str(params.get("host") or "").split(",") if host]
    if params.get("hostaddr") or not hosts or any(host.startswith(("/", "@")) for host in hosts):
        return params
    ports = str(params.get("port") or 5432).split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    found = [(host, port, address) for host, port in zip(hosts, ports, strict=True) for address in _addresses(host)]
    host, port, address = (",".join(column) for column in zip(*found, strict=True))
    return {**params, "host": host, "port": port, "hostaddr": address}


def _addresses(host: str) -> list[str]:
    with suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise psycopg2.OperationalError(f"could not translate host name {host!r} to address: {error}") from error
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))

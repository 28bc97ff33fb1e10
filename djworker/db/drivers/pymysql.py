"""PyMySQL: green by gevent's sockets; a shared TLS context, a deadline for the handshake, and an end for killed queries."""

from __future__ import annotations

import functools
import io
import os
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import gevent
import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from djworker.conf.pool_table import CONNECT_TIMEOUT
from djworker.db.drivers import mysql, offload
from djworker.db.drivers.base import ENDING_TIMEOUT, UNTOLD, Described, Driver, Params
from djworker.db.drivers.news import logged_in
from djworker.db.drivers.sockets import cut_loose, until_gone
from djworker.db.drivers.turns import give_way
from djworker.db.drivers.watch import Watch
from djworker.db.drivers.wrapped_connect import wrapped_as
from djworker.deadlines import RequestEnded

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Hashable
    from socket import socket

    from djworker.db.drivers.news import News

ER_CANNOT_CONNECT: Final = 2003
TURN: Final = 0.005  # seconds of unpacking before others get a turn


def _answered(method: Callable[..., Any]) -> Callable[..., Any]:
    """Note while a command waits for its answer. A greenlet that is killed then leaves the note standing."""

    @functools.wraps(method)
    def call(self: PyMySQLConnection, *args: object, **kwargs: object) -> object:
        self.awaiting = True
        try:
            result = method(self, *args, **kwargs)
        except BaseException as error:
            self.awaiting = not isinstance(error, Exception)
            if self.ending is not None:
                self.statement_ended(self.ending, error)
            raise
        self.awaiting = False
        if self.ending is not None:
            self.statement_ended(self.ending, None)
        return result

    return call


class PoliteReader(io.RawIOBase):
    """[worker] Reads a socket, and lets others run while a large answer comes in.

    gevent's sockets wait only when nothing is there. Rows that come as fast as PyMySQL unpacks them would stop the hub
    for as long as there are any: a second for 100 000.
    """

    def __init__(self, sock: socket, conn: PyMySQLConnection) -> None:
        self._sock = sock
        self._conn = weakref.ref(conn)
        self._more = False
        self._since = 0.0

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As io.RawIOBase's."""
        now = time.monotonic()
        if not self._more:
            self._since = now
        elif now - self._since > TURN:
            give_way()
            self._since = time.monotonic()
        try:
            size: int = self._sock.recv_into(buffer)
        except RequestEnded as ended:
            size = self._ended(ended, buffer)
        self._more = size == len(buffer)
        return size

    def _ended(self, ended: RequestEnded, buffer: Any) -> int:
        """The server's own end of the statement is read, if it comes in time; then the connection raises what was raised here."""
        conn = self._conn()
        if conn is None or not conn.awaiting or conn.ending is not None:
            raise ended
        conn.end_statement(ended)
        size: int = self._sock.recv_into(buffer)
        return size


class Ending(NamedTuple):
    """[worker] How a statement is ended with its request."""

    error: RequestEnded
    limit: gevent.Timeout  # raises it again


class PyMySQLConnection(Connection):
    """[worker] A PyMySQL connection that connects in time and knows when it was abandoned."""

    awaiting = False
    ending: Ending | None = None
    let_in = False  # the server has accepted the login
    tracks_session = False
    params: Params
    login: mysql.ServerPlace
    _watch: Watch | None = None

    if TYPE_CHECKING:  # what the stubs leave out
        _sock: socket
        _rfile: io.BufferedReader
        _result: Any
        server_status: int

        def _execute_command(self, command: int, sql: bytes) -> None: ...
        def _read_ok_packet(self) -> object: ...
        def thread_id(self) -> int: ...  # noqa: D102 - PyMySQL's

    query = _answered(Connection.query)
    next_result = _answered(Connection.next_result)
    begin = _answered(Connection.begin)
    commit = _answered(Connection.commit)
    rollback = _answered(Connection.rollback)
    ping = _answered(Connection.ping)
    select_db = _answered(Connection.select_db)
    set_character_set = _answered(Connection.set_character_set)
    show_warnings = _answered(Connection.show_warnings)

    def connect(self, sock: socket | None = None) -> None:
        """Connect, shake hands and log in, all within `connect_timeout`. PyMySQL's own ends with the TCP connect."""
        limit = gevent.Timeout(self.connect_timeout)
        try:
            with limit:
                super().connect(sock)
        except pymysql.MySQLError as error:
            if self.let_in:
                logged_in(error)
            raise
        except gevent.Timeout as overrun:
            if overrun is not limit:
                raise
            message = f"Can't connect to MySQL server on {self.host!r} (no answer in {self.connect_timeout:g} s)"
            raise pymysql.OperationalError(ER_CANNOT_CONNECT, message) from None
        self._rfile.close()  # empty: the last answer was read to its end
        self._rfile = io.BufferedReader(PoliteReader(self._sock, self))

    def end_statement(self, error: RequestEnded) -> None:
        """Have the server end the statement, whose answer is read next; `error` is raised if that does not come in time."""
        self.ending = Ending(error, gevent.Timeout(ENDING_TIMEOUT, error))
        self.ending.limit.start()
        try:
            mysql.kill_statement(lambda: _connect_to_kill(self.params), self.thread_id())
        except pymysql.MySQLError:
            raise error from None

    def statement_ended(self, ending: Ending, answer: BaseException | None) -> None:
        """Raise what has ended the statement, unless something else has been raised into it meanwhile.

        The connection is of use afterwards only where the statement's own error said that it was killed.

        Args:
            ending: how it is ended.
            answer: what it has raised, if it has.
        """
        answered = answer is None or isinstance(answer, Exception)
        try:
            if _was_killed(answer):
                self._swallow()
            elif answered:
                self._force_close()
        except pymysql.MySQLError:
            self._force_close()
        finally:
            self.ending = None
            ending.limit.close()
        if answered:
            raise ending.error

    def _swallow(self) -> None:
        """The round trip that a late KILL QUERY hits. See `mysql.kill_statement`."""
        self.awaiting = True
        try:
            Connection.query(self, mysql.SWALLOWS)
        except pymysql.MySQLError as error:
            if not _was_killed(error):
                raise
        self.awaiting = False

    def _request_authentication(self) -> None:
        super()._request_authentication()  # type: ignore[misc]
        self.let_in = True

    def _force_close(self) -> None:
        super()._force_close()  # type: ignore[misc]
        # PyMySQL's finalizer of unread rows would go on reading.
        if self._result is not None and self._result.unbuffered_active:
            self._result.unbuffered_active = False
            self.awaiting = True

    def _create_ssl_ctx(self, sslp: object) -> ssl.SSLContext:
        """One context for all connections with the same settings.

        PyMySQL makes one per connection, and with it loads the system's CA bundle: 45 ms of CPU with the hub stopped.
        """
        make: Callable[[object], ssl.SSLContext] = super()._create_ssl_ctx  # type: ignore[misc]
        if not isinstance(sslp, dict):
            return make(sslp)
        files = tuple(os.stat(str(path)).st_mtime_ns for path in sslp.values() if _is_file(path))
        key = (tuple(sorted((name, repr(value)) for name, value in sslp.items())), files)
        context = _contexts.get(key)
        if context is None:
            context = _contexts[key] = offload.apply(make, sslp)
        return context

    def _read_query_result(self, unbuffered: bool = False) -> int:  # noqa: FBT001, FBT002 - PyMySQL's signature
        result: int = super()._read_query_result(unbuffered)  # type: ignore[misc]
        # PyMySQL drops the status word at the end of rows. Without autocommit, rows mean that a transaction is open.
        if self._result.server_status is None and not self.get_autocommit():
            self.server_status |= mysql.IN_TRANSACTION
        return result

    @_answered
    def reset_session(self) -> None:
        """COM_RESET_CONNECTION: one round trip, no new login. A transaction that is prepared in two phases refuses it."""
        if self.server_status & mysql.IN_TRANSACTION:
            self.rollback()
        self._execute_command(mysql.COM_RESET_CONNECTION, b"")
        self._read_ok_packet()

    def track_session(self) -> None:
        """Ask the server to say which statements change session state."""
        with suppress(pymysql.MySQLError), self.cursor() as cursor:
            cursor.execute(mysql.TRACK_SESSION)
            self.tracks_session = True

    @property
    def watch(self) -> Watch:
        """A look at the socket; the waiting is gevent's."""
        if self._watch is None:
            self._watch = Watch(self._sock.fileno())
        return self._watch


def _was_killed(error: BaseException | None) -> bool:
    return isinstance(error, pymysql.MySQLError) and error.args[:1] == (mysql.ER_QUERY_INTERRUPTED,)


def _connect_to_kill(params: Params) -> PyMySQLConnection:
    return PyMySQLConnection(**mysql.killer_params(params))


_contexts: dict[Hashable, ssl.SSLContext] = {}


def _is_file(value: object) -> bool:
    return isinstance(value, str) and os.path.isfile(value)


class PyMySQLDriver(Driver[PyMySQLConnection]):
    """[worker] See `Driver`."""

    name = "pymysql"
    connection_type = PyMySQLConnection
    error = pymysql.MySQLError

    def connect(self, params: Params) -> PyMySQLConnection:
        """Connect within `connect_timeout` seconds (default 10), login included."""
        flags = params.get("client_flag", 0) | mysql.CLIENT_SESSION_TRACK
        make = wrapped_as(pymysql, PyMySQLConnection)
        conn: PyMySQLConnection = make(**{"connect_timeout": CONNECT_TIMEOUT, **params, "client_flag": flags})
        conn.params = params
        try:
            conn.track_session()
            with conn.cursor(Cursor) as cursor:
                conn.login = mysql.ServerPlace.of(cursor)
        except BaseException as error:
            logged_in(error)
            self._drop(conn)
            raise
        return conn

    @staticmethod
    def _drop(conn: PyMySQLConnection) -> None:
        conn._force_close()  # noqa: SLF001 - close() would still say good-bye

    def close(self, conn: PyMySQLConnection) -> None:
        """See `Driver`."""
        if self.busy(conn) or not conn.open:
            self._drop(conn)
            return
        with until_gone(conn._sock.fileno()):  # noqa: SLF001 - PyMySQL has no public name for it
            conn.close()

    def check(self, conn: PyMySQLConnection) -> None:
        """COM_PING."""
        conn.ping(reconnect=False)

    def is_closed(self, conn: PyMySQLConnection) -> bool:
        """See `Driver`."""
        return not conn.open

    def is_broken(self, conn: PyMySQLConnection) -> bool:
        """See `Driver`."""
        return not conn.open or (not self.busy(conn) and conn.watch.readable())

    def busy(self, conn: PyMySQLConnection) -> bool:
        """See `Driver`. Rows of an SSCursor that were not fetched count too."""
        result = conn._result  # noqa: SLF001 - PyMySQL has no public name for it
        return conn.awaiting or (result is not None and bool(result.unbuffered_active))

    def cancel(self, conn: PyMySQLConnection) -> None:
        """KILL the session: an abandoned PyMySQL connection has already closed its socket."""
        self._drop(conn)
        mysql.kill_session(lambda: _connect_to_kill(conn.params), conn.thread_id(), self.error)

    def reset(self, conn: PyMySQLConnection) -> None:
        """COM_RESET_CONNECTION, then what `connect` had asked for."""
        conn.reset_session()
        charset = conn.params.get("charset") or pymysql.connections.DEFAULT_CHARSET
        if conn.charset != charset:
            conn.set_character_set(charset)
        with conn.cursor(Cursor) as cursor:
            mysql.restore(
                cursor,
                conn.params,
                charset,
                conn.login,
                track=conn.tracks_session,
                order=mysql.Order.BEFORE_AUTOCOMMIT,
                error=self.error,
            )

    def forget(self, conn: PyMySQLConnection) -> None:
        """See `Driver`."""
        with suppress(Exception):
            if conn._sock is not None:  # noqa: SLF001 - PyMySQL has no public name for it
                cut_loose(conn._sock.fileno())  # noqa: SLF001 - PyMySQL has no public name for it

    def inserted(self, conn: PyMySQLConnection, *, called: bool) -> int:
        """See `Driver`. LAST_INSERT_ID() goes on telling of an earlier row, perhaps a stranger's. RETURNING says nothing."""
        result = conn._result  # noqa: SLF001 - PyMySQL has no public name for it
        if result is None:
            return 0
        if result.field_count:
            return 0 if called else UNTOLD
        return int(result.insert_id or 0)

    def warned(self, conn: PyMySQLConnection) -> bool:
        """See `Driver`."""
        return bool(conn._result is not None and conn._result.warning_count)  # noqa: SLF001 - PyMySQL has no public name for it

    def in_transaction(self, conn: PyMySQLConnection) -> bool:
        """See `Driver`."""
        return bool(conn.server_status & mysql.IN_TRANSACTION)

    def autocommit(self, conn: PyMySQLConnection) -> bool:
        """See `Driver`. From the status word of the last reply."""
        return conn.get_autocommit()

    def set_autocommit(self, conn: PyMySQLConnection, value: bool) -> None:  # noqa: FBT001 - the shape of every library's own setter
        """One round trip, if it is a change."""
        conn.autocommit(value)

    def backend_id(self, conn: PyMySQLConnection) -> int:
        """See `Driver`."""
        return conn.thread_id()

    def new_password(self, conn: PyMySQLConnection, password: str | None) -> None:
        """KILL logs in anew."""
        conn.params = {**conn.params, "password": password}

    def ended_by_hand(self, error: BaseException) -> bool:
        """See `Driver`."""
        return isinstance(error, pymysql.MySQLError) and mysql.was_ended(error)

    def news(self, error: BaseException | None) -> News | None:
        """See `Driver`."""
        return mysql.news_of(error) if isinstance(error, pymysql.MySQLError) else None

    def refuses_writes(self, conn: PyMySQLConnection) -> bool:
        """See `Driver`."""
        with conn.cursor(Cursor) as cursor:
            cursor.execute(mysql.REFUSES_WRITES)
            return bool(cursor.fetchall())

    def session_state_changed(self, conn: PyMySQLConnection, cursor: Described) -> bool | None:
        """See `Driver`. Known for statements without rows: PyMySQL drops the status word at the end of rows."""
        if not conn.tracks_session or cursor.description is not None:
            return None
        return bool(conn.server_status & mysql.SESSION_STATE_CHANGED)

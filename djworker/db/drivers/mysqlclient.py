"""mysqlclient made green: send, wait in the hub, and read where reading cannot block; the rest in native threads."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import MySQLdb
import MySQLdb.constants.CLIENT
import MySQLdb.constants.FIELD_TYPE
import MySQLdb.converters  # these three, because the constructor imports them, in a native thread: see `offload`
from MySQLdb.connections import Connection
from MySQLdb.cursors import Cursor

from djworker.conf.pool_table import CONNECT_TIMEOUT
from djworker.db.drivers import mysql, offload
from djworker.db.drivers.base import ENDING_TIMEOUT, UNTOLD, Described, Driver, Params
from djworker.db.drivers.mysql_native import Handle
from djworker.db.drivers.mysql_replies import is_whole
from djworker.db.drivers.mysql_results import Rows, UnreadRows
from djworker.db.drivers.news import logged_in
from djworker.db.drivers.sockets import Line, cut_loose, until_gone
from djworker.db.drivers.turns import at_most
from djworker.db.drivers.watch import READ, Watch
from djworker.db.drivers.wrapped_connect import wrapped_as
from djworker.deadlines import RequestEnded

if TYPE_CHECKING:
    from collections.abc import Callable

    from djworker.db.drivers.news import News

R = TypeVar("R")

#: A statement up to here fits into any socket's send buffer, so that sending it cannot block.
SEND_INLINE: Final = 16 * 1024
#: Answers up to here are looked at before they are read; larger ones are still under way when their first byte comes.
LOOK_AT: Final = 64 * 1024
# The C methods, past our own overrides of them.
_send_query = Connection.send_query
_read_query_result = Connection.read_query_result
_store_result = Connection.store_result

_PEEK: Final = socket.MSG_PEEK | socket.MSG_DONTWAIT


class MySQLWire:
    """[worker] What every command needs to know of its connection.

    Beside the connection, for the C type behind that looks each attribute up by itself: a hundred nanoseconds against
    twelve, and a query asks a dozen times.
    """

    __slots__ = ("awaiting", "buffer", "look", "look_at", "lost", "wait", "whole")

    def __init__(self, line: Line, watch: Watch, look_at: int) -> None:
        self.awaiting = False  # from the first byte of a command to the last of its answer
        self.lost = False
        self.whole = True  # the answer that is being read was in the receive buffer as a whole
        self.look, self.wait = line.recv_into, watch.wait
        self.buffer = bytearray(LOOK_AT)
        self.look_at = look_at


class MySQLClientConnection(Connection):  # type: ignore[misc]  # MySQLdb has no types
    """[worker] A mysqlclient connection that waits in the hub.

    mysqlclient has `send_query` and `read_query_result` apart, and between them the answer can be awaited. Every other
    method that talks with the server is sent as a statement instead, or goes to a native thread.
    `wire.awaiting` is true from the first byte of a command to the last of its answer; a killed greenlet leaves it true.
    """

    tracks_session = False
    params: Params
    login: mysql.ServerPlace
    wire: Any = None  # not before the login is done, which happens in a native thread

    def become_green(self) -> None:
        """From here on the connection belongs to the hub."""
        # The library closes its descriptor as soon as it finds the connection lost, in a native thread perhaps, and its number is
        # free for another then. So we look, wait and hang up through one of our own.
        self._fd = self.fileno()
        self._line = Line(fileno=os.dup(self._fd))
        self.watch = Watch(self._line.fileno())
        self.handle = Handle(self)
        self.backend = int(self.thread_id())  # while a thread of ours is in the library, a question is refused
        self._thread: offload.Job[Any] | None = None
        self._unread: UnreadRows | None = None
        # What is compressed cannot be looked through: nothing is taken for whole.
        self.wire = MySQLWire(self._line, self.watch, 0 if self.params.get("compress") else LOOK_AT)

    # -- one command: every query comes through here, so these few lines are written for speed ----------------------

    def query(self, query: bytes | bytearray | str) -> None:
        """Send the statement and read the head of its answer."""
        wire = self.wire
        if wire is None:
            _in_login(super().query, query)
            return
        if type(query) is not bytes:
            query = query.encode(self.encoding) if isinstance(query, str) else bytes(query)
        if wire.awaiting or wire.lost:
            self.refuse()
        wire.awaiting = True
        try:
            if len(query) <= SEND_INLINE:
                _send_query(self, query)
            else:
                self._in_thread(_send_query, self, query)
            wire.wait(READ)
            try:
                size = wire.look(wire.buffer, LOOK_AT, _PEEK)
            except OSError:  # reset, or nothing has come after all: the library finds out, and says it
                size = 0
            wire.whole = is_whole(wire.buffer, size) and size < wire.look_at
            if wire.whole:
                _read_query_result(self)
            else:
                self._in_thread(_read_query_result, self)
        except MySQLdb.Error as error:
            self._failed(error)
            raise
        except RequestEnded:
            self._end_statement()
            raise
        wire.awaiting = False

    def _end_statement(self) -> None:
        """Have the server end the statement, and hear of it.

        The connection awaits nothing afterwards only where the statement's own error said that it was killed.
        """
        if self._thread is not None:  # which reads the answer already
            return
        with suppress(MySQLdb.Error), at_most(ENDING_TIMEOUT):
            mysql.kill_statement(lambda: _connect_to_kill(self.params), self.backend)
            self.wire.wait(READ)
            if _was_killed(self._read_answer):
                self.wire.awaiting = False
                # What a late KILL QUERY hits. See `mysql.kill_statement`.
                _was_killed(self._run, mysql.SWALLOWS)

    def _read_answer(self) -> None:
        self._in_thread(_read_query_result, self)
        self._in_thread(_store_result, self)  # the error may come in the place of the rows

    def refuse(self) -> None:
        """Raise: what was asked cannot be done now."""
        why = "the connection was lost" if self.wire.lost else "another command waits for its answer on this connection"
        raise MySQLdb.OperationalError(mysql.SERVER_LOST if self.wire.lost else mysql.COMMANDS_OUT_OF_SYNC, why)

    def _in_thread(self, function: Callable[..., R], *args: object) -> R:
        # Remembered: under a thread that a killed greenlet left behind the C structure must not be freed, nor used by another.
        if self._thread is not None or self.wire.lost:
            self.refuse()
        job: offload.Job[R] = offload.Job(function, *args)
        self._thread = job
        try:
            return job.get()
        finally:
            if job.over:
                self._thread = None
            del job  # see `Job.get`

    def _failed(self, error: MySQLdb.Error) -> None:
        if self._thread is not None:  # not of the answer that it reads
            return
        self.wire.awaiting = False
        self.wire.lost = self.wire.lost or mysql.is_fatal(error.args[0] if error.args else None)

    def _exchange(self, function: Callable[..., R], *args: object) -> R:
        """A call of the C library that sends and reads: in a native thread."""
        if self.wire is None:
            return _in_login(function, *args)
        if self.wire.awaiting or self.wire.lost:
            self.refuse()
        self.wire.awaiting = True
        try:
            result = self._in_thread(function, *args)
        except MySQLdb.Error as error:
            self._failed(error)
            raise
        self.wire.awaiting = False
        return result

    def _run(self, sql: bytes) -> None:
        self.query(sql)
        _store_result(self)  # an OK packet: nothing to read

    # -- its answer -----------------------------------------------------------------------------------------------

    def store_result(self) -> object:
        """All rows of the answer, or None."""
        wire = self.wire
        if wire is None:
            return _store_result(self)
        try:
            if wire.whole:
                return _store_result(self)
            wire.awaiting = True
            result = self._in_thread(_store_result, self)
        except MySQLdb.Error as error:
            self._failed(error)
            raise
        wire.awaiting = False
        return None if result is None else Rows(result)

    def use_result(self) -> object:
        """Rows as they come (SSCursor). The connection is busy until the last is fetched."""
        result = super().use_result()
        if result is None or self.wire is None:
            return result
        self.wire.awaiting = True
        # Kept until it is read or the connection closed: its finalizer would read the rest with the hub stopped.
        self._unread = UnreadRows(result, self)
        return self._unread

    def fetch_in_thread(self, function: Callable[..., R], *args: object) -> R:
        """Read rows of an SSCursor."""
        try:
            return self._in_thread(function, *args)
        except MySQLdb.Error as error:
            self._failed(error)
            raise

    def rows_are_read(self) -> None:
        """The last row of an SSCursor was fetched."""
        self.wire.awaiting = False
        self._unread = None

    def next_result(self) -> int:
        """Go to the next answer of a procedure or of several statements; 0, or -1 if there is none."""
        wire = self.wire
        # Nothing is left of a command before the one under way. A question beside that one's thread is refused.
        if (wire is not None and wire.awaiting) or not self.more_results():
            return -1
        wire.whole = False  # it may be in the library's buffer already: the socket does not tell
        return int(self._exchange(super().next_result))

    def discard_result(self) -> None:
        """Read an answer and throw it away."""
        self._exchange(super().discard_result)

    # -- everything else that talks with the server ---------------------------------------------------------------

    def commit(self) -> None:
        """COMMIT."""
        self._run(b"COMMIT") if self.wire is not None else super().commit()

    def rollback(self) -> None:
        """ROLLBACK."""
        self._run(b"ROLLBACK") if self.wire is not None else super().rollback()

    def autocommit(self, on: bool) -> None:  # noqa: FBT001 - mysqlclient's signature
        """Set the mode, if it is a change."""
        if self.wire is None:
            _in_login(super().autocommit, on)
        elif bool(self.get_autocommit()) != bool(on):
            self._run(b"SET autocommit = %d" % bool(on))

    def select_db(self, db: str) -> None:
        """USE."""
        self._run(b"USE `%s`" % db.encode(self.encoding).replace(b"`", b"``"))

    def ping(self, *_: object) -> None:
        """One round trip. Never reconnects: a session cannot be replaced behind its owner's back."""
        self._run(b"DO 0") if self.wire is not None else super().ping()

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        """SET NAMES, which the library must see too: its escaping depends on it."""
        self._exchange(super().set_character_set, charset, None)
        if collation:
            self._run(f"SET NAMES {charset} COLLATE {collation}".encode())

    def change_user(self, *args: object) -> None:
        """Log in anew; forgets the whole session. Never on a lost connection: libmariadb writes into the buffer it has freed."""
        self._exchange(super().change_user, *args)

    def set_server_option(self, option: int) -> int:
        """Turn multi-statements on or off."""
        return int(self._exchange(super().set_server_option, option))

    def kill(self, pid: int) -> None:
        """KILL a session."""
        self._run(b"KILL %d" % pid)

    def stat(self) -> str:
        """The server's status line."""
        return str(self._exchange(super().stat))

    def reset_session(self) -> bool:
        """COM_RESET_CONNECTION; False where the client library or the server has none.

        Raises the library's error in a transaction that is prepared in two phases: of such a session MariaDB lets go only
        when it ends, and after a reset each statement would fail.
        """
        # What was not read. libmariadb reads one answer and takes the next for the reset's, or goes round for ever at an error.
        with suppress(MySQLdb.Error):  # a statement's, whose caller is gone; of a lost connection the reset will tell
            while self.next_result() == 0:
                self.discard_result()
        if (self.handle.server_status() or 0) & mysql.IN_TRANSACTION:
            self.rollback()  # one that is prepared in two phases refuses
        return bool(self._exchange(self._reset))

    def _reset(self) -> bool:
        # [a native thread] Ours and not the handle's: a thread that is left behind must keep the C structure.
        done = self.handle.reset()
        if not done and mysql.is_fatal(self.errno()):
            raise MySQLdb.OperationalError(self.errno(), self.error())
        return done

    # -- its end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close. With an answer under way the socket is shut first, so that nothing waits for the rest of it."""
        if self.wire is not None and self.open:
            self.watch.close(MySQLdb.OperationalError(mysql.SERVER_LOST, "closed by another greenlet"))
            self.wire.lost = True  # or who reads on would send the next thread into it while we wait for this one
            if self.wire.awaiting:
                with suppress(OSError):
                    self._line.shutdown(socket.SHUT_RDWR)
            if self._thread is not None:
                self._thread.wait()
            self._line.close()
        super().close()
        self._unread = self._thread = None  # the collector does not see that mysqlclient's result in them holds us

    def cut_loose(self) -> None:
        """Put a dead end in the socket's place, the library's descriptor included if it has not closed that."""
        with suppress(OSError):
            if os.path.sameopenfile(self._fd, self.watch.fd):
                cut_loose(self._fd)
        cut_loose(self.watch.fd)


def _in_login(function: Callable[..., R], *args: object) -> R:
    """[a native thread] What the constructor sends once the server has let us in, and our own questions after it."""
    try:
        return function(*args)
    except MySQLdb.Error as error:
        logged_in(error)
        raise


def _connect(params: Params) -> MySQLClientConnection:
    """[a native thread] Connect, log in and set up, blocking."""
    conn: MySQLClientConnection = wrapped_as(MySQLdb, MySQLClientConnection)(**params)
    with suppress(MySQLdb.Error):
        conn.query(mysql.TRACK_SESSION)
        conn.store_result()
        conn.tracks_session = True
    with conn.cursor(Cursor) as cursor:
        conn.login = mysql.ServerPlace.of(cursor)
    return conn


def _connect_in_thread(params: Params) -> MySQLClientConnection:
    job = offload.Job(_connect, {"connect_timeout": CONNECT_TIMEOUT, **params})
    try:
        conn = job.get()
    except BaseException:
        job.whenever_done(MySQLClientConnection.close)
        raise
    conn.params = params
    conn.become_green()
    return conn


def _was_killed(function: Callable[..., object], *args: object) -> bool:
    """Whether the server says that it was told to end the statement."""
    try:
        function(*args)
    except MySQLdb.Error as error:
        if error.args[:1] != (mysql.ER_QUERY_INTERRUPTED,):
            raise
        return True
    return False


def _connect_to_kill(params: Params) -> MySQLClientConnection:
    return _connect_in_thread({"connect_timeout": CONNECT_TIMEOUT, **mysql.killer_params(params)})


class MySQLClientDriver(Driver[MySQLClientConnection]):
    """[worker] See `Driver`."""

    name = "mysqlclient"
    connection_type = MySQLClientConnection
    error = MySQLdb.MySQLError

    def connect(self, params: Params) -> MySQLClientConnection:
        """Connect in a native thread, name resolution and login included, within `connect_timeout` (default 10 s)."""
        return _connect_in_thread(params)

    def close(self, conn: MySQLClientConnection) -> None:
        """See `Driver`."""
        if conn.open and (conn.wire.awaiting or conn.wire.lost):
            conn.close()
        elif conn.open:
            with until_gone(conn.watch.fd):
                conn.close()

    def check(self, conn: MySQLClientConnection) -> None:
        """`DO 0`."""
        conn.ping()

    def is_closed(self, conn: MySQLClientConnection) -> bool:
        """See `Driver`."""
        return not conn.open or conn.wire.lost

    def is_broken(self, conn: MySQLClientConnection) -> bool:
        """See `Driver`."""
        wire = conn.wire
        return not conn.open or wire.lost or (not wire.awaiting and conn.watch.readable())

    def busy(self, conn: MySQLClientConnection) -> bool:
        """See `Driver`. Rows of an SSCursor that were not fetched count too."""
        return conn.wire.awaiting and bool(conn.open)

    def cancel(self, conn: MySQLClientConnection) -> None:
        """KILL the session. A thread that was reading from it is waited for in `close`."""
        mysql.kill_session(lambda: _connect_to_kill(conn.params), conn.backend, self.error)

    def reset(self, conn: MySQLClientConnection) -> None:
        """COM_RESET_CONNECTION, or a new login where the library has none; then what `connect` had asked for."""
        params = conn.params
        if not conn.reset_session():
            conn.change_user(conn.user, params.get("password", params.get("passwd", "")), conn.login.database)
        charset = params.get("charset") or conn.character_set_name()
        if charset != conn.character_set_name():  # the library must see it too
            conn.set_character_set(charset)
        with conn.cursor(Cursor) as cursor:
            mysql.restore(
                cursor,
                params,
                charset,
                conn.login,
                track=conn.tracks_session,
                order=mysql.Order.FIRST,
                error=self.error,
            )

    def forget(self, conn: MySQLClientConnection) -> None:
        """See `Driver`."""
        with suppress(Exception):
            if conn.open:
                conn.cut_loose()

    def inserted(self, conn: MySQLClientConnection, *, called: bool) -> int:
        """See `Driver`. LAST_INSERT_ID() goes on telling of an earlier row, perhaps a stranger's. RETURNING says nothing."""
        if conn.field_count():  # the number is that of an earlier statement
            return 0 if called else UNTOLD
        return int(conn.insert_id())

    def warned(self, conn: MySQLClientConnection) -> bool:
        """See `Driver`."""
        return bool(conn.warning_count())

    def in_transaction(self, conn: MySQLClientConnection) -> bool | None:
        """See `Driver`. Oracle's client library does not tell."""
        status = conn.handle.server_status()
        return None if status is None else bool(status & mysql.IN_TRANSACTION)

    def autocommit(self, conn: MySQLClientConnection) -> bool:
        """See `Driver`. From the status word of the last reply."""
        return bool(conn.get_autocommit())

    def set_autocommit(self, conn: MySQLClientConnection, value: bool) -> None:  # noqa: FBT001 - the shape of every library's own setter
        """One round trip, if it is a change."""
        conn.autocommit(value)

    def backend_id(self, conn: MySQLClientConnection) -> int:
        """See `Driver`."""
        return conn.backend

    def new_password(self, conn: MySQLClientConnection, password: str | None) -> None:
        """KILL logs in anew."""
        conn.params = {**conn.params, "password": password}

    def ended_by_hand(self, error: BaseException) -> bool:
        """See `Driver`."""
        return isinstance(error, MySQLdb.Error) and mysql.was_ended(error)

    def news(self, error: BaseException | None) -> News | None:
        """See `Driver`."""
        return mysql.news_of(error) if isinstance(error, MySQLdb.Error) else None

    def refuses_writes(self, conn: MySQLClientConnection) -> bool:
        """See `Driver`."""
        with conn.cursor(Cursor) as cursor:
            cursor.execute(mysql.REFUSES_WRITES)
            return bool(cursor.fetchall())

    def session_state_changed(self, conn: MySQLClientConnection, cursor: Described) -> bool | None:
        """See `Driver`. Known for statements without rows."""
        if not conn.tracks_session or cursor.description is not None:
            return None
        status = conn.handle.server_status()
        return None if status is None else bool(status & mysql.SESSION_STATE_CHANGED)

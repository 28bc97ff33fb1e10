"""What both MySQL drivers share: killing an abandoned query, and reading the server's status word."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import gevent

from djworker.db.drivers.base import CANCEL_TIMEOUT, Params
from djworker.db.drivers.news import News, was_logged_in
from djworker.db.drivers.turns import at_most

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Bits of the server's status word, which comes with every reply (MySQL internals, "Status Flags").
IN_TRANSACTION: Final = 0x0001
SESSION_STATE_CHANGED: Final = 0x4000

COM_RESET_CONNECTION: Final = 0x1F
CLIENT_SESSION_TRACK: Final = 1 << 23

#: Makes the server raise SESSION_STATE_CHANGED. Part of the session, so it is said again after a reset.
TRACK_SESSION: Final = "SET SESSION session_track_state_change = 1"

ER_NO_SUCH_THREAD: Final = 1094
ER_CON_COUNT_ERROR: Final = 1040
#: What KILL QUERY makes of the statement.
ER_QUERY_INTERRUPTED: Final = 1317
#: Does nothing. It may be interrupted itself.
SWALLOWS: Final = b"DO 0"
COMMANDS_OUT_OF_SYNC: Final = 2014
SERVER_LOST: Final = 2013

#: The session is over, whatever the library thinks: killed (MariaDB), shut down, idle for too long (MySQL 8).
FATAL_SERVER_ERRORS: Final = frozenset({1053, 1927, 3169, 4031})

#: ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, ER_READ_ONLY_MODE; ER_SERVER_SHUTDOWN, ER_SERVER_OFFLINE_MODE.
_NEWS: Final = {1792: News.READ_ONLY, 1836: News.READ_ONLY, 1053: News.LEAVING, 3032: News.LEAVING}
#: Numbers that mean several things, each with the word of its text that tells (no translation changes option names):
#: ER_OPTION_PREVENTS_STATEMENT, and ER_UNKNOWN_COM_ERROR of a Galera node without its cluster.
_NEWS_BY_WORD: Final = {1290: ("read-only", News.READ_ONLY), 1047: ("WSREP", News.LEAVING)}
#: ER_CONNECTION_KILLED, ER_QUERY_INTERRUPTED, and what a client finds where KILL said nothing (PyMySQL's number is 0 then).
_ENDED_BY_HAND: Final = frozenset({1927, 1317, 2006, SERVER_LOST, 0})
#: Servers differ in which of these they have, and MariaDB 12 in the values. What is set for all sessions counts.
REFUSES_WRITES: Final = """SHOW GLOBAL VARIABLES WHERE variable_name IN
 ('read_only', 'super_read_only', 'innodb_read_only', 'tx_read_only', 'transaction_read_only', 'offline_mode')
 AND value NOT IN ('OFF', '0')"""

_POLL: Final = 0.005  # seconds between two looks at the server's list of sessions
_RETRY: Final = 0.05


def is_fatal(code: object) -> bool:
    """Whether an error with this number ends the session: the client's own errors 2000-2999 do, and a few of the server's."""
    return isinstance(code, int) and (2000 <= code < 3000 or code in FATAL_SERVER_ERRORS)


def news_of(error: BaseException) -> News | None:
    """See `Driver.news`, for an error of the library's."""
    code, text = (*error.args, "", "")[:2]
    if code in _NEWS_BY_WORD:
        word, news = _NEWS_BY_WORD[code]
        return news if word in str(text) else None
    return _NEWS.get(code) if isinstance(code, int) else None


def was_ended(error: BaseException) -> bool:
    """See `Driver.ended_by_hand`, for an error of the library's."""
    return was_logged_in(error) and bool(_ENDED_BY_HAND.intersection(error.args[:1]))


class DatabaseCursor(Protocol):
    """A library's own cursor."""

    def execute(self, query: str, /) -> Any:
        """Run a statement; the number of its rows."""

    def fetchone(self) -> Any:
        """The next row."""


class Killer(Protocol):
    """A short connection of its own."""

    def cursor(self) -> DatabaseCursor:
        """The library's."""
        ...

    def close(self) -> object:
        """Hang up."""


class ServerPlace(NamedTuple):
    """What COM_RESET_CONNECTION does not take back: where a session is, and with whose rights."""

    database: str | None  # chosen with USE
    role: str | None

    @classmethod
    def of(cls, cursor: DatabaseCursor) -> ServerPlace:
        """Ask the server."""
        cursor.execute("SELECT DATABASE(), CURRENT_ROLE()")
        return cls(*cursor.fetchone())


class Order(enum.Enum):
    """When a library runs `init_command` in its connect: what comes later wins, where both set the same."""

    FIRST = "before the character set, sql_mode and autocommit"  # mysqlclient, whose C library runs it at the login
    BEFORE_AUTOCOMMIT = "after the character set and sql_mode"  # PyMySQL


def restore(
    cursor: DatabaseCursor,
    params: Params,
    charset: str,
    login: ServerPlace,
    *,
    track: bool,
    order: Order,
    error: type[Exception],
) -> None:
    """Make a reset session what `connect` had made it.

    Raises `error` if that takes a new login: a role, for only the server knows the user's default, and the lack of a database.
    """
    init_command = params.get("init_command")
    if init_command and order is Order.FIRST:
        cursor.execute(init_command)
    cursor.execute(f"SET {', '.join(_settings(params, charset, track=track))}")
    now = ServerPlace.of(cursor)
    if now.role != login.role or (now.database and not login.database):
        raise error(f"a session that went from {login} to {now} can only be replaced")
    if now.database != login.database:
        cursor.execute(f"USE `{str(login.database).replace('`', '``')}`")
    if init_command and order is Order.BEFORE_AUTOCOMMIT:
        cursor.execute(init_command)
        for setting in _autocommit(params):
            cursor.execute(f"SET {setting}")


def _settings(params: Params, charset: str, *, track: bool) -> Iterator[str]:
    yield f"NAMES {charset} COLLATE {params['collation']}" if params.get("collation") else f"NAMES {charset}"
    yield from _autocommit(params)
    if params.get("sql_mode"):
        yield f"SESSION sql_mode = '{params['sql_mode']}'"
    if track:
        yield TRACK_SESSION.removeprefix("SET ")


def _autocommit(params: Params) -> Iterator[str]:
    wanted = params.get("autocommit", False)
    if wanted is not None:
        yield f"autocommit = {int(wanted)}"


def killer_params(params: Params) -> Params:
    """Parameters for the short connection that kills: the same server and user; no database, no set-up."""
    unwanted = {"init_command", "sql_mode", "database", "db", "cursorclass", "autocommit", "conv"}
    return {name: value for name, value in params.items() if name not in unwanted}


def kill_session(connect: Callable[[], Killer], thread_id: int, error: type[Exception]) -> None:
    """KILL the session on a connection of its own; return when it has left the server's list, or after CANCEL_TIMEOUT.

    MySQL has no cancel outside of a session, so for a moment there is one more than the pool's bound. It is KILL
    CONNECTION, because the greenlet that would hear of the statement's end is gone. See `kill_statement`.

    Args:
        connect: makes that connection.
        thread_id: the session's, in the server.
        error: the base of the library's errors.
    """
    with at_most(CANCEL_TIMEOUT):
        killer = _connect_patiently(connect, error)
        try:
            _kill(killer.cursor(), thread_id, error)
        finally:
            killer.close()


def kill_statement(connect: Callable[[], Killer], thread_id: int) -> None:
    """KILL QUERY on a connection of its own. The greenlet that waits for the statement calls it, and goes on waiting.

    A KILL QUERY that comes too late hits the session's next statement. The server has marked the session when it answers, and
    takes the mark off at the end of each statement: one more round trip afterwards (`SWALLOWS`) is what a late one hits.
    """
    killer = connect()
    try:
        killer.cursor().execute(f"KILL QUERY {thread_id:d}")
    finally:
        killer.close()


def _connect_patiently(connect: Callable[[], Killer], error: type[Exception]) -> Killer:
    # At the server's limit there is no room for the killer either, until another session ends.
    while True:
        try:
            return connect()
        except error as refusal:
            if refusal.args[:1] != (ER_CON_COUNT_ERROR,):
                raise
        gevent.sleep(_RETRY)


def _kill(cursor: DatabaseCursor, thread_id: int, error: type[Exception]) -> None:
    try:
        cursor.execute(f"KILL CONNECTION {thread_id:d}")
    except error as gone:
        if gone.args[:1] != (ER_NO_SUCH_THREAD,):
            raise
    while cursor.execute(f"SELECT 1 FROM information_schema.processlist WHERE id = {thread_id:d}"):  # noqa: S608 - a number
        gevent.sleep(_POLL)

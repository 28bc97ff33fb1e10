"""SQLite in a worker: WAL, and writers that queue in the hub instead of stopping it on the busy time-out."""

from __future__ import annotations

import functools
import os
import re
import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar

import gevent
from gevent import get_hub, getcurrent

from djworker.db.drivers.base import Driver, Params
from djworker.db.drivers.sqlite_queue import WriteQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

R = TypeVar("R")

BUSY_TIMEOUT: Final = 5.0  # seconds; the default of Python's sqlite3
BUSY: Final = 5  # primary result code SQLITE_BUSY
BUSY_SNAPSHOT: Final = 517  # the transaction has read what another has changed since: no wait helps, only a rollback
_PAUSES: Final = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05)  # seconds between attempts while another process writes

_LEAD: Final = re.compile(
    r"(?:\s+|--[^\n]*|/\*.*?\*/|\()*(\w+)(?:\s+(IMMEDIATE|EXCLUSIVE))?", re.IGNORECASE | re.DOTALL
)
_READING: Final = frozenset(
    {"SELECT", "VALUES", "EXPLAIN", "PRAGMA", "COMMIT", "END", "ROLLBACK", "RELEASE", "SAVEPOINT", "ATTACH", "DETACH"}
)
_WRITING: Final = re.compile(r"\b(?:INSERT|UPDATE|DELETE|REPLACE)\b", re.IGNORECASE)
_RETURNING: Final = re.compile(r"\bRETURNING\b", re.IGNORECASE)


@functools.lru_cache(maxsize=2048)
def writes(sql: str) -> bool:
    """Whether the statement wants the write lock. In doubt it does: that costs a place in the queue, nothing more."""
    found = _LEAD.match(sql)
    word = found[1].upper() if found else ""
    if word == "BEGIN":
        return bool(found and found[2])
    if word == "WITH":
        return bool(_WRITING.search(sql))
    return word not in _READING


@functools.lru_cache(maxsize=2048)
def returns_rows(sql: str) -> bool:
    """Whether a writing statement has rows: until they are read it is not finished, and holds its lock."""
    return writes(sql) and bool(_RETURNING.search(sql))


class GreenCursor(sqlite3.Cursor):
    """[worker] A cursor whose writing statements wait for their turn."""

    connection: SQLiteConnection
    _rows: Iterator[object] | None = None

    def execute(self, sql: str, *args: Any) -> Self:
        """As sqlite3's."""
        self._rows = None
        user: Any = getcurrent()
        user.djworker_statement = sql
        result = self.connection.take_turn(sql, super().execute, sql, *args)
        if returns_rows(sql) and self.connection.isolation_level is None:
            self._rows = iter(super().fetchall())
            self.connection.release_lock()
        return result

    def executemany(self, sql: str, *args: Any) -> Self:
        """As sqlite3's, but all or nothing: half a batch cannot be tried again."""
        self._rows = None
        if self.connection.in_transaction:
            return self.connection.take_turn(sql, super().executemany, sql, *args)
        with self.connection.batch():
            return super().executemany(sql, *args)

    def executescript(self, sql_script: str) -> sqlite3.Cursor:
        """As sqlite3's, in one turn."""
        return self.connection.take_turn("SCRIPT", super().executescript, sql_script)

    def fetchone(self) -> Any:
        """As sqlite3's."""
        return super().fetchone() if self._rows is None else next(self._rows, None)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """As sqlite3's."""
        if self._rows is None:
            return super().fetchmany(self.arraysize if size is None else size)
        return [row for _, row in zip(range(self.arraysize if size is None else size), self._rows, strict=False)]

    def fetchall(self) -> list[Any]:
        """As sqlite3's."""
        return super().fetchall() if self._rows is None else list(self._rows)

    def __next__(self) -> Any:
        return super().__next__() if self._rows is None else next(self._rows)


@functools.cache
def green(factory: type[sqlite3.Cursor]) -> type[GreenCursor]:
    """Django's cursor class, or another's, with our turn-taking around it."""
    if issubclass(factory, GreenCursor):
        return factory
    if factory is sqlite3.Cursor:
        return GreenCursor
    return type(f"Green{factory.__name__}", (GreenCursor, factory), {})


class SQLiteConnection(sqlite3.Connection):
    """[worker] A SQLite connection that has a place in its file's write queue.

    The lock is taken before a statement that may write, and given back when no transaction is open any more. SQLite's
    own lock is then free, unless another process holds it: for that there is a retry that lets the hub run.
    """

    closed = False
    _queue: WriteQueue | None = None

    def __init__(self, database: str, timeout: float = BUSY_TIMEOUT, **options: Any) -> None:
        super().__init__(database, timeout=0, **options)
        self.timeout = timeout

    def join_queue(self) -> None:
        """Find the queue of the database's file; a database in memory has none."""
        path = self.execute("PRAGMA database_list").fetchone()[2]
        if path:
            status = os.stat(path)
            self._queue = WriteQueue.of(get_hub(), status.st_dev, status.st_ino)

    def cursor(self, factory: type[sqlite3.Cursor] | None = None) -> GreenCursor:  # type: ignore[override]
        """As sqlite3's."""
        return super().cursor(green(factory or GreenCursor))

    def execute(self, sql: str, *args: Any) -> GreenCursor:
        """As sqlite3's, whose own makes its cursor without asking `cursor()`."""
        return self.cursor().execute(sql, *args)

    def executemany(self, sql: str, *args: Any) -> GreenCursor:
        """Likewise."""
        return self.cursor().executemany(sql, *args)

    def executescript(self, sql_script: str) -> sqlite3.Cursor:
        """Likewise."""
        return self.cursor().executescript(sql_script)

    def take_turn(self, sql: str, call: Callable[..., R], *args: object) -> R:
        """Make the call, when its turn has come."""
        deadline = time.monotonic() + self.timeout
        if self._queue is not None and writes(sql):
            self._queue.acquire(self, self.timeout)
        try:
            return self._try(deadline, call, *args)
        finally:
            self.release_lock()

    @staticmethod
    def _try(deadline: float, call: Callable[..., R], *args: object) -> R:
        attempt = 0
        while True:
            try:
                return call(*args)
            except sqlite3.OperationalError as error:
                code = getattr(error, "sqlite_errorcode", 0)
                if code & 0xFF != BUSY or code == BUSY_SNAPSHOT or time.monotonic() > deadline:
                    raise
            gevent.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
            attempt += 1

    def batch(self) -> _Batch:
        """A transaction of its own around several statements; left open where Python's sqlite3 would leave it open."""
        return _Batch(self)

    def release_lock(self) -> None:
        """Give the write lock back if no transaction needs it."""
        if self._queue is not None and self._queue.holder is self and (self.closed or not self.in_transaction):
            self._queue.release(self)

    def commit(self) -> None:
        """As sqlite3's."""
        self.take_turn("COMMIT", super().commit)

    def rollback(self) -> None:
        """As sqlite3's."""
        self.take_turn("ROLLBACK", super().rollback)

    def close(self) -> None:
        """As sqlite3's: what was not committed is gone."""
        super().close()
        self.closed = True
        self.release_lock()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        try:
            return super().__exit__(kind, error, trace)
        finally:
            self.release_lock()


class _Batch:
    """[worker] `with` it: BEGIN IMMEDIATE, and COMMIT in autocommit mode."""

    def __init__(self, conn: SQLiteConnection) -> None:
        self._conn = conn

    def __enter__(self) -> None:
        self._conn.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._conn.rollback()
        elif self._conn.isolation_level is None:
            self._conn.commit()


_forgotten: list[sqlite3.Connection] = []


class SQLiteDriver(Driver[SQLiteConnection]):
    """[worker] See `Driver`.

    Statements run in the hub's thread: a look-up by key costs 5 µs there and 80 µs by way of another thread. The price
    is that a statement which takes long stops the worker for as long.
    """

    name = "sqlite3"
    error = sqlite3.Error

    def connect(self, params: Params) -> SQLiteConnection:
        """Open the file, in WAL mode if it can be. `timeout` is how long a writer waits for its turn."""
        conn: SQLiteConnection = sqlite3.connect(**{**params, "factory": _factory(params.get("factory"))})
        return self.set_up(conn)

    def set_up(self, conn: SQLiteConnection) -> SQLiteConnection:
        """What `connect` does after opening, for a connection that Django has opened. Closes it when it fails."""
        try:
            conn.join_queue()
            self._use_wal(conn)
        except BaseException:
            conn.close()
            raise
        return conn

    @staticmethod
    def _use_wal(conn: SQLiteConnection) -> None:
        if conn.execute("PRAGMA journal_mode").fetchone()[0] in ("wal", "memory"):
            return
        with suppress(sqlite3.OperationalError):  # a read-only file, or a file system without shared memory
            conn.take_turn("WAL", lambda: conn.execute("PRAGMA journal_mode = WAL").fetchone())

    def close(self, conn: SQLiteConnection) -> None:
        """See `Driver`."""
        conn.close()

    def check(self, conn: SQLiteConnection) -> None:
        """A look into the file."""
        conn.execute("SELECT count(*) FROM sqlite_master").fetchone()

    def is_closed(self, conn: SQLiteConnection) -> bool:
        """See `Driver`."""
        return conn.closed

    def is_broken(self, conn: SQLiteConnection) -> bool:
        """See `Driver`."""
        return conn.closed

    def busy(self, conn: SQLiteConnection) -> bool:  # noqa: ARG002 - no connection differs
        """Never: a statement cannot be left half-way, and waiting for a turn is not a statement yet."""
        return False

    def cancel(self, conn: SQLiteConnection) -> None:
        """See `Driver`."""
        conn.interrupt()

    def reset(self, conn: SQLiteConnection) -> None:
        """Always raises: pragmas, attached files and temporary tables stay. Discard the connection; a new one is cheap."""
        conn.rollback()
        raise sqlite3.NotSupportedError("a SQLite session cannot be reset, only replaced")

    def forget(self, conn: SQLiteConnection) -> None:
        """Never closed in the child: the last close of a file's connections removes its write-ahead log."""
        conn.closed = True
        _forgotten.append(conn)

    def in_transaction(self, conn: SQLiteConnection) -> bool:
        """See `Driver`."""
        return not conn.closed and conn.in_transaction

    def autocommit(self, conn: SQLiteConnection) -> bool:
        """See `Driver`."""
        return conn.isolation_level is None

    def set_autocommit(self, conn: SQLiteConnection, value: bool) -> None:  # noqa: FBT001 - the shape of every library's own setter
        """As Django does it: `isolation_level`. Turning it on commits what is open."""
        wanted: Any = None if value else ""
        if conn.isolation_level != wanted:
            conn.isolation_level = wanted
            conn.release_lock()

    def refuses_writes(self, conn: SQLiteConnection) -> bool:  # noqa: ARG002 - no connection differs
        """Never: a file has no standby."""
        return False

    def backend_id(self, conn: SQLiteConnection) -> int:
        """There is no server; the object's own number."""
        return id(conn)


@functools.cache
def _factory(wanted: type[sqlite3.Connection] | None) -> type[SQLiteConnection]:
    if wanted is None or issubclass(SQLiteConnection, wanted):
        return SQLiteConnection
    return type(f"Green{wanted.__name__}", (SQLiteConnection, wanted), {})

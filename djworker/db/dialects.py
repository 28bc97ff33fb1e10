"""What differs between client libraries once a statement has run: where its rows are, and how settings are replayed."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from djworker.db.pins import Contract, MySQLContract, PostgresContract

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from djworker.db.profile import Setting

# What the set-up of a connection has set, beside the server's own defaults. `role` is not in the view.
_BASE = """SELECT lower(name), setting FROM pg_catalog.pg_settings WHERE source = 'session'
 UNION ALL SELECT 'role', pg_catalog.current_setting('role')"""


class Dialect:
    """[worker] One client library, for leases. Stateless."""

    contract: type[Contract]
    reads_parameters_early = False  # whether `executemany` needs them all before it begins
    detach: Any = None  # (conn, cursor) -> a cursor whose rows need no connection; None if more is to come on it

    may_be_pooled = False  # by something in front of the server that may lend one session to several clients

    def own(self, cursor: Any) -> None:
        """A server-side cursor is in a lease's care from now on."""

    def next_result(self, cursor: Any) -> Any:
        """As the library's `nextset()`."""
        return cursor.nextset()

    def base(self, conn: Any) -> dict[str, str]:  # noqa: ARG002
        """The settings that a connection has after its set-up."""
        return {}

    def replay(self, conn: Any, settings: Sequence[Setting]) -> None:
        """Make these settings, in one round trip."""
        raise NotImplementedError(f"{type(self).__name__} replays no settings: they pin")


class _Postgres(Dialect):
    may_be_pooled = True
    contract = PostgresContract

    def base(self, conn: Any) -> dict[str, str]:
        with conn.cursor() as cursor:
            cursor.execute(_BASE)
            return dict(cursor.fetchall())


@functools.cache
def _quiet(cursor: Any) -> Any:
    # Without slots it would have a place for a __dict__ more, where psycopg's own class has none.
    return type(f"Leased{cursor.__name__}", (cursor,), {"__slots__": (), "__del__": lambda _: None})


class Psycopg3(_Postgres):
    """[worker] Rows are in the result, which outlives everything."""

    reads_parameters_early = (
        True  # they are read under the connection's lock, where one that queries would wait for itself
    )

    def own(self, cursor: Any) -> None:
        """The lease counts and wipes what was never closed; psycopg's own warning would come from killed greenlets too."""
        kind: Any = type(cursor)
        cursor.__class__ = _quiet(kind)

    def replay(self, conn: Any, settings: Sequence[Setting]) -> None:
        """Bound on our side: several statements in one string take no parameters."""
        from psycopg import ClientCursor  # noqa: PLC0415 -- optional

        with ClientCursor(conn) as cursor:
            texts = [cursor.mogrify(setting.sql, setting.params) for setting in settings]
            cursor.execute("; ".join(text.rstrip().rstrip(";") for text in texts))


class Psycopg2(_Postgres):
    """[worker] Its cursors refuse to give their rows once the connection is closed."""

    @staticmethod
    def detach(_conn: Any, cursor: Any) -> Any:
        """Take the rows now."""
        return Detached(cursor) if cursor.description is not None else cursor

    def replay(self, conn: Any, settings: Sequence[Setting]) -> None:
        """Bound on our side, in one string."""
        with conn.cursor() as cursor:
            texts = [cursor.mogrify(setting.sql, setting.params) for setting in settings]
            cursor.execute(b"; ".join(text.rstrip().rstrip(b";") for text in texts))


class Detached:
    """[worker] A psycopg2 cursor with its rows beside it."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._rows = cursor.fetchall()
        self._at = 0

    def fetchone(self) -> Any:
        """The next row."""
        if self._at >= len(self._rows):
            return None
        self._at += 1
        return self._rows[self._at - 1]

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """The next rows."""
        end = self._at + (self._cursor.arraysize if size is None else size)
        rows, self._at = self._rows[self._at : end], min(end, len(self._rows))
        return list(rows)

    def fetchall(self) -> list[Any]:
        """The other rows."""
        rows, self._at = self._rows[self._at :], len(self._rows)
        return list(rows)

    def __iter__(self) -> Iterator[Any]:
        while (row := self.fetchone()) is not None:
            yield row

    @property
    def rownumber(self) -> int:
        """As psycopg2's."""
        return self._at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


class _MySQL(Dialect):
    contract = MySQLContract

    def next_result(self, cursor: Any) -> Any:
        """A cursor that was cut loose had no more."""
        return None if getattr(cursor, "cursor", cursor).connection is None else cursor.nextset()


def _cut(cursor: Any) -> Any:
    """Its `close()` would look for more results on the connection, which is somebody else's by then."""
    getattr(cursor, "cursor", cursor).connection = None  # the library's, in Django's wrapper
    return cursor


class MySQLClient(_MySQL):
    """[worker] Rows are stored in the cursor, but for SSCursor's."""

    @staticmethod
    def detach(conn: Any, cursor: Any) -> Any:
        """Cut the cursor loose, unless there is more to read."""
        return None if conn.wire.awaiting or conn.more_results() else _cut(cursor)


class PyMySQL(_MySQL):
    """[worker] Rows are stored in the cursor, but for SSCursor's."""

    @staticmethod
    def detach(conn: Any, cursor: Any) -> Any:
        """Cut the cursor loose, unless there is more to read."""
        result = conn._result  # noqa: SLF001 -- the status of the last answer stands nowhere else
        return None if result is not None and (result.has_next or result.unbuffered_active) else _cut(cursor)


DIALECTS: dict[str, type[Dialect]] = {
    "psycopg": Psycopg3,
    "psycopg2": Psycopg2,
    "mysqlclient": MySQLClient,
    "pymysql": PyMySQL,
}

"""What differs between client libraries once a statement has run: where its rows are, and how settings are replayed."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from djworker.db.lease.pinning import Contract, MySQLContract, PostgresContract

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from djworker.db.lease.protocols import Door, Holding
    from djworker.db.lease.session_settings import Setting

#: What the set-up of a connection has set, beside the server's own defaults. `role` is not in the view.
_BASE: Final = """SELECT lower(name), setting FROM pg_catalog.pg_settings WHERE source = 'session'
 UNION ALL SELECT 'role', pg_catalog.current_setting('role')"""


#: Triggers in whose text there is a user variable, a call or a lock. What a stored function does in them is not looked at.
_TRIGGERS: Final = """SELECT 1 FROM information_schema.triggers WHERE event_object_schema = DATABASE()
 AND lower(action_statement) REGEXP '@|call|get_lock|temporary|last_insert_id' LIMIT 1"""


#: psycopg2's messages give 50 characters of it.
_WAY_OUT: Final = "LeasedConnection: use its cursor(cursor_factory=X)"

#: A statement that uses a table empties MySQL's list of warnings, and finds no rows.
_EMPTY_LISTS: Final = "(SELECT 1 FROM information_schema.ENGINES WHERE 0)"


class ClientLibrary:
    """[worker] One client library, for leases. Stateless."""

    contract: type[Contract]
    refuses_cursors = False  # of a closed connection; else they can be made, and do not execute
    wraps_cursors = False  # whether Django has a cursor of its own around the library's
    reads_parameters_early = False  # whether `executemany` needs them all before it begins
    detach: Any = None  # (conn, cursor) -> a cursor whose rows need no connection; None if more is to come on it

    forget_numbers: Any = (
        None  # (conn): no number of a sequence is known in this session any more; None if there is no such way
    )

    number_is_in: Any = (
        None  # (conn, row): whether LAST_INSERT_ID() is; None where the number of a row is one of a sequence
    )

    door_name = ""  # what the class of `connection.connection` is called; by its own name where this is empty

    may_be_pooled = False  # by something in front of the server that may lend one session to several clients

    def own(self, cursor: object) -> None:
        """A server-side cursor is in a lease's care from now on."""

    def next_result(self, cursor: Any) -> object:
        """As the library's `nextset()`."""
        return cursor.nextset()

    def enter(self, door: Door) -> None:
        """`with connection.connection:` begins."""

    def leave(self, door: Door, *_exc_info: object) -> Any:
        """It ends. MySQL's libraries close."""
        door.close()

    def fact(self, name: str, cursor: Any, lease: Holding) -> object:  # noqa: ARG002 - for the libraries that need it
        """A cursor's attribute as it may be given out: it must not lead to the connection either, nor tell of other leases."""
        return getattr(cursor, name)

    def forget(self, conn: Any, *, number: int | None, lists: bool) -> None:
        """Take away what others have left in a session: the last number made, the warnings, the number of rows found.

        number: what to tell of instead; None if the present one is ours. lists: whether to empty the others.
        """

    def cut_error(self, error: BaseException | None) -> None:
        """An error of the library's must not lead to its connection, which others will have when it is looked at."""

    def hand_over(self, conn: Any, turns: tuple[int, ...]) -> None:
        """Code is about to see the library's object, whose turns these were: without what others received on it."""

    def base(self, conn: Any) -> dict[str, str]:  # noqa: ARG002 - for the libraries that need it
        """The settings that a connection has after its set-up."""
        return {}

    def learn(self, contract: Contract, conn: Any) -> None:
        """What the contract must know of the database: asked on the first connection of a pool."""

    def replay(self, conn: Any, settings: Sequence[Setting]) -> None:
        """Make these settings, in one round trip."""
        raise NotImplementedError(f"{type(self).__name__} replays no settings: they pin")


class _Postgres(ClientLibrary):
    may_be_pooled = True
    refuses_cursors = True
    contract = PostgresContract

    @staticmethod
    def forget_numbers(conn: Any) -> None:
        """In a transaction, too."""
        with conn.cursor() as cursor:
            cursor.execute("DISCARD SEQUENCES")

    def base(self, conn: Any) -> dict[str, str]:
        with conn.cursor() as cursor:
            cursor.execute(_BASE)
            return dict(cursor.fetchall())


class Sent(NamedTuple):
    """[worker] What psycopg 3 has sent."""

    query: bytes
    params: object
    types: object
    formats: object


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

    def fact(self, name: str, cursor: Any, lease: Holding) -> object:  # noqa: ARG002 - for the libraries that need it
        """Of what was sent, the text and its parameters: beside them the library keeps what leads to its connection."""
        value = getattr(cursor, name)
        return (
            Sent(*(getattr(value, each) for each in Sent._fields)) if name == "_query" and value is not None else value
        )

    def leave(self, door: Door, *exc_info: object) -> Any:
        """Psycopg 3 ends the transaction, and closes."""
        if exc_info[:1] == (None,):
            door.commit()
        else:
            door.rollback()
        door.close()

    def replay(self, conn: Any, settings: Sequence[Setting]) -> None:
        """Bound on our side: several statements in one string take no parameters."""
        from psycopg import ClientCursor  # noqa: PLC0415 - optional

        with ClientCursor(conn) as cursor:
            texts = [cursor.mogrify(setting.sql, setting.params) for setting in settings]
            cursor.execute("; ".join(text.rstrip().rstrip(";") for text in texts))


class Psycopg2(_Postgres):
    """[worker] Its cursors refuse to give their rows once the connection is closed."""

    # Its types in C (`extensions.cursor(conn)`) refuse an object of ours with nothing but the name of the type.
    door_name = _WAY_OUT

    @staticmethod
    def detach(_conn: Any, cursor: Any) -> Any:
        """Take the rows now."""
        return Detached(cursor) if cursor.description is not None else cursor

    def enter(self, door: Door) -> None:
        """psycopg2 begins a transaction with the next statement, in autocommit too."""
        door.lease.opened("with connection.connection").__enter__()

    def leave(self, door: Door, *exc_info: object) -> Any:
        """It ends the transaction, and the connection goes on."""
        conn = door.lease.held()
        if conn is None:
            return door.commit()
        return conn.__exit__(*exc_info)

    def cut_error(self, error: BaseException | None) -> None:
        """`error.cursor`; what `error.diag` shows is the error's own."""
        from psycopg2 import Error  # noqa: PLC0415 - optional

        if isinstance(error, Error) and error.cursor is not None:
            error.__setstate__({"pgerror": error.pgerror, "pgcode": error.pgcode})  # type: ignore[no-untyped-call]

    def hand_over(self, conn: Any, turns: tuple[int, ...]) -> None:
        """Notices, unless code has put something of its own in their place."""
        hand_over = getattr(conn.notices, "hand_over", None)
        if hand_over is not None:
            hand_over(turns)

    def replay(self, conn: Any, settings: Sequence[Setting]) -> None:
        """Bound on our side, in one string."""
        with conn.cursor() as cursor:
            texts = [cursor.mogrify(setting.sql, setting.params) for setting in settings]
            cursor.execute(b"; ".join(text.rstrip().rstrip(b";") for text in texts))


class Detached:
    """[worker] A psycopg2 cursor with its rows beside it."""

    def __init__(self, cursor: Any) -> None:
        self.raw = cursor
        self._rows = cursor.fetchall()
        self._at = 0

    def fetchone(self) -> object:
        """The next row."""
        if self._at >= len(self._rows):
            return None
        self._at += 1
        return self._rows[self._at - 1]

    def fetchmany(self, size: int | None = None) -> list[object]:
        """The next rows."""
        end = self._at + (self.raw.arraysize if size is None else size)
        rows, self._at = self._rows[self._at : end], min(end, len(self._rows))
        return list(rows)

    def fetchall(self) -> list[object]:
        """The other rows."""
        rows, self._at = self._rows[self._at :], len(self._rows)
        return list(rows)

    def scroll(self, value: int, mode: str = "relative") -> None:
        """As psycopg2's, with its errors."""
        from psycopg2 import ProgrammingError  # noqa: PLC0415 - optional

        if mode not in ("relative", "absolute"):
            raise ProgrammingError("scroll mode must be 'relative' or 'absolute'")
        at = value + (self._at if mode == "relative" else 0)
        if not 0 <= at < len(self._rows):
            raise ProgrammingError("scroll destination out of bounds")
        self._at = at

    def __iter__(self) -> Iterator[object]:
        while (row := self.fetchone()) is not None:
            yield row

    @property
    def rownumber(self) -> int:
        """As psycopg2's."""
        return self._at

    @property
    def arraysize(self) -> int:
        """As psycopg2's."""
        return int(self.raw.arraysize)

    @arraysize.setter
    def arraysize(self, value: int) -> None:
        self.raw.arraysize = value

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


class _MySQL(ClientLibrary):
    contract = MySQLContract
    wraps_cursors = True

    def learn(self, contract: Contract, conn: Any) -> None:
        """Whether there are triggers that may change the session."""
        with conn.cursor() as cursor:
            contract.triggers = bool(cursor.execute(_TRIGGERS))  # type: ignore[attr-defined]
            cursor.fetchall()

    def forget(self, conn: Any, *, number: int | None, lists: bool) -> None:
        """In one statement."""
        wanted = [] if number is None else [f"LAST_INSERT_ID({number:d})"]
        wanted += [_EMPTY_LISTS] if lists else []
        if wanted:
            with conn.cursor() as cursor:
                cursor.execute(f"DO {', '.join(wanted)}")

    @staticmethod
    def number_is_in(conn: Any, row: Any) -> bool:
        """Whether the number that the session tells of stands in a row that the library has given back."""
        with conn.cursor() as cursor:
            cursor.execute("SELECT LAST_INSERT_ID()")
            (found,) = cursor.fetchall()
        return not _values(found).isdisjoint(_values(row))

    def next_result(self, cursor: Any) -> object:
        """A cursor that was cut loose had no more."""
        return None if getattr(cursor, "cursor", cursor).connection is None else cursor.nextset()


def _values(row: Any) -> set[object]:
    """Those that are numbers, of a row in the shape that the cursor's class has given it."""
    values = row.values() if isinstance(row, dict) else row
    return {value for value in values if isinstance(value, int)}


def _cut(cursor: Any) -> Any:
    """Its `close()` would look for more results on the connection, which is another request's by then."""
    getattr(cursor, "cursor", cursor).connection = None  # the library's, in Django's wrapper
    return cursor


class MySQLClient(_MySQL):
    """[worker] Rows are stored in the cursor, but for SSCursor's."""

    @staticmethod
    def detach(conn: Any, cursor: Any) -> Any:
        """Cut the cursor loose, unless there is more to read."""
        return None if conn.wire.awaiting or conn.more_results() else _cut(cursor)

    def fact(self, name: str, cursor: Any, lease: Holding) -> object:
        """After rows the library's number is still that of an earlier statement, which may be another lease's."""
        if name == "lastrowid" and cursor.description is not None:
            return max(lease.made, 0)
        return super().fact(name, cursor, lease)


class PyMySQL(_MySQL):
    """[worker] Rows are stored in the cursor, but for SSCursor's."""

    @staticmethod
    def detach(conn: Any, cursor: Any) -> Any:
        """Cut the cursor loose, unless there is more to read."""
        result = conn._result  # noqa: SLF001 - the status of the last answer stands nowhere else
        return None if result is not None and (result.has_next or result.unbuffered_active) else _cut(cursor)


CLIENT_LIBRARIES: dict[str, type[ClientLibrary]] = {
    "psycopg": Psycopg3,
    "psycopg2": Psycopg2,
    "mysqlclient": MySQLClient,
    "pymysql": PyMySQL,
}

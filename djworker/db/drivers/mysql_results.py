"""Result sets of mysqlclient that are too large, or too slow, to be handled in one go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import MySQLdb

from djworker.db.drivers.turns import give_way

R = TypeVar("R")

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Result(Protocol):
        """The library's own: a type written in C, without a name to import it by."""

        def fetch_row(self, maxrows: int, how: int, /) -> tuple[object, ...]:
            """So many of the next rows, or all for 0."""
            ...

        def discard(self) -> None:
            """Read the rest and throw it away."""

    class Reader(Protocol):
        """The connection that the rows come from."""

        def fetch_in_thread(self, function: Callable[..., R], *args: object) -> R:
            """Read more rows."""

        def rows_are_read(self) -> None:
            """There are no more."""

        def refuse(self) -> None:
            """Raise: what was asked cannot be done now."""


#: Rows that are made into Python objects in one go; above, the hub gets a turn in between. 1000 rows take about 1 ms.
ROWS_AT_ONCE: Final = 1000
#: Rows of an SSCursor that are read in one visit to a native thread, which costs as much as making 30 of them.
ROWS_AHEAD: Final = 100
EVERYTHING: Final = 0  # mysqlclient's way to ask for all rows


class Rows:
    """[worker] A stored result whose rows become Python objects in portions, with a turn of the hub in between."""

    def __init__(self, result: Result) -> None:
        self._result = result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._result, name)

    def fetch_row(self, maxrows: int = 1, how: int = 0) -> tuple[object, ...]:
        """As mysqlclient's: up to `maxrows` rows, or all for 0."""
        if maxrows != EVERYTHING:
            return self._result.fetch_row(maxrows, how)
        found: list[object] = []
        while portion := self._result.fetch_row(ROWS_AT_ONCE, how):
            found.extend(portion)
            if len(portion) < ROWS_AT_ONCE:
                break
            give_way()
        return tuple(found)


class UnreadRows:
    """[worker] An unbuffered result (SSCursor), read ahead in a native thread.

    Whether the next row has arrived cannot be known: it may be in the C library's buffer, where no descriptor shows it.

    The library's result is let go after the last row: its finalizer waits for the connection's lock. A collector that found it
    while rows of a later result are made, which holds the same lock, stopped the hub for ever. So no frame holds it either.
    """

    def __init__(self, result: Result, reader: Reader) -> None:
        self._result: Any = result
        self._reader = reader
        self._ahead: tuple[object, ...] = ()
        self._at = 0
        self._ended = False
        self._interrupted = False  # a greenlet was killed in a read; its thread may be at it still

    def __getattr__(self, name: str) -> Any:
        return getattr(self._result, name)

    def fetch_row(self, maxrows: int = 1, how: int = 0) -> tuple[object, ...]:
        """As mysqlclient's: up to `maxrows` rows, or all for 0."""
        rows: list[object] = []
        while maxrows == EVERYTHING or len(rows) < maxrows:
            if self._at == len(self._ahead) and not self._read_on(how):
                break
            wanted = None if maxrows == EVERYTHING else self._at + maxrows - len(rows)
            portion = self._ahead[self._at : wanted]
            self._at += len(portion)
            rows.extend(portion)
        return tuple(rows)

    def _read_on(self, how: int) -> bool:
        if self._ended:
            return False
        self._ahead, self._at = self._read(self._fetch, how), 0
        if len(self._ahead) < ROWS_AHEAD:
            self._finish()
        return bool(self._ahead)

    def discard(self) -> None:
        """Read the rest and throw it away. Nothing can be read any more where a read was interrupted."""
        if not self._ended and not self._interrupted:
            self._read(self._discard)
            self._finish()

    def _fetch(self, how: int) -> tuple[object, ...]:
        rows: tuple[object, ...] = self._result.fetch_row(ROWS_AHEAD, how)
        return rows

    def _discard(self) -> None:
        self._result.discard()

    def _read(self, function: Callable[..., R], *args: object) -> R:
        if self._interrupted:
            self._reader.refuse()
        self._interrupted = True
        try:
            found = self._reader.fetch_in_thread(function, *args)
        except MySQLdb.Error:
            self._finish()
            raise
        self._interrupted = False
        return found

    def _finish(self) -> None:
        self._ended, self._result = True, None
        self._reader.rows_are_read()

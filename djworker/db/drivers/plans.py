"""Prepared statements of psycopg 3 that many sessions and many tenants share a pool with.

psycopg prepares a text that comes often, on each connection for itself, and keeps it for ever. After a migration the server
refuses each of them ("cached plan must not change result type"), and so it does where one text means tables of different
shape: the schema of one tenant, and that of another. So names are resolved as part of the key; a refusal makes all
connections of the pool prepare anew; and a text that is refused again is not prepared any more.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from psycopg._preparing import Prepare, PrepareManager

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from psycopg._queries import PostgresQuery


class Plans:
    """[worker] What the connections of one pool have learned of prepared statements."""

    def __init__(self, resolution: Callable[[Any], Hashable]) -> None:
        """resolution: of a connection, the settings by which names of tables are resolved on it."""
        self.resolution = resolution
        self.generation = 0  # grows with each refusal; what was prepared earlier is dropped before it is used again
        self.unfit: set[bytes] = set()
        self._refused: set[bytes] = set()

    def refused(self, text: bytes, generation: int) -> None:
        """The server refused this text, which was prepared in that generation."""
        if generation != self.generation:
            return  # refused for what is known already
        self.generation += 1
        if text in self._refused:
            self.unfit.add(text)
        self._refused.add(text)


class Prepared(PrepareManager):
    """[worker] The prepared statements of one connection."""

    plans: Plans | None = None

    def __init__(self, conn: object) -> None:
        super().__init__()
        self._conn = weakref.ref(conn)  # a connection that is dropped must not wait for the collector
        self._generation = 0
        self._last = b""

    def share(self, plans: Plans) -> None:
        """Learn with the others of the pool."""
        self.plans, self._generation = plans, plans.generation

    def refused(self) -> None:
        """The server refused the last statement as it was prepared."""
        if self.plans is not None:
            self.plans.refused(self._last, self._generation)

    def key(self, query: PostgresQuery) -> Hashable:  # type: ignore[override]  # a static method there
        """With the settings that say which tables are meant."""
        if self.plans is None:
            return (query.query, query.types)
        return (query.query, query.types, self.plans.resolution(self._conn()))

    def get(self, query: PostgresQuery, prepare: bool | None = None) -> tuple[Prepare, bytes]:  # noqa: FBT001 - psycopg's
        """As psycopg's, which asks it before each statement."""
        if prepare is False or self.prepare_threshold is None:
            return Prepare.NO, b""
        plans = self.plans
        if plans is not None:
            if self._generation != plans.generation:
                self._generation = plans.generation
                self.clear()
            # What is to be deallocated goes out after the statement, and takes along what the statement has prepared.
            if self._to_flush or query.query in plans.unfit:
                return Prepare.NO, b""
            self._last = query.query
        return super().get(query, prepare)

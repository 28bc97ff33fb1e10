"""Django's operations, on a lease."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql.operations import *  # noqa: F403 - packages take more than the class from here
from django.db.backends.postgresql.operations import DatabaseOperations as StockOperations


class ComposesSQL(StockOperations):
    """[worker] `compose_sql` hands the connection to the library, which wants its own."""

    def compose_sql(self, sql: object, params: object) -> object:
        """As Django's."""
        wrapper: Any = self.connection
        with wrapper.physical():
            return super().compose_sql(sql, params)


class DatabaseOperations(ComposesSQL):  # type: ignore[no-redef]
    """[worker] Django's."""

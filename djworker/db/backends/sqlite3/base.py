"""Django's SQLite backend with writers that queue in the hub.

Not pooled: a connection is an open file, rows are read while they are fetched, and a database in memory *is* its connection.
Each greenlet has one for as long as Django keeps it, as ever.
"""

from __future__ import annotations

from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.sqlite3 import base
from gevent import monkey


class SQLiteMixin(BaseDatabaseWrapper):
    """[worker] What stands above Django's: a connection that does not stop the hub."""

    bare = True  # no lease

    def get_new_connection(self, conn_params: dict[str, Any]) -> object:
        """Django's functions and pragmas, on a connection that takes turns."""
        if not monkey.is_module_patched("socket"):
            return super().get_new_connection(conn_params)
        from djworker.db.drivers.sqlite import SQLiteConnection, SQLiteDriver  # noqa: PLC0415 - only where it is green

        conn = super().get_new_connection({"factory": SQLiteConnection, **conn_params})
        conn.join_queue()
        SQLiteDriver._use_wal(conn)  # noqa: SLF001 - the same set-up, on a connection that Django has made
        return conn


class DatabaseWrapper(SQLiteMixin, base.DatabaseWrapper):
    """[worker] Django's, without a stop of the hub."""


#: What is put above and below an engine that is built on Django's own.
AROUND: Final = (SQLiteMixin,)


def __getattr__(name: str) -> Any:
    """Django's: packages take more than the class from here."""
    return getattr(base, name)

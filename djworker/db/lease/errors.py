"""How a lease says no: refusals rather than an answer from the wrong session."""

from __future__ import annotations

from django.db import InterfaceError, OperationalError, ProgrammingError


class ConnectionLost(OperationalError):
    """The connection was lost inside a transaction or with session state on it, or an earlier statement did not run.

    Later statements rely on it. Without this error they would run as if nothing had happened: half a transfer, a query in
    another tenant's schema. Remedy: leave the `atomic()` block (or roll back); outside of a transaction,
    `connection.close()`. Then begin again.
    """


class StatementRunning(ProgrammingError):
    """A statement inside a statement of the same greenlet: the client library would wait for itself for ever.

    Remedy: run one before the other; with psycopg 3, read all rows of `copy()` or `stream()` before the next query.
    """


class ReadBackLost(OperationalError):
    """A statement asks for what an earlier one left in its session, and other requests may have used that session since.

    Remedy: `RETURNING`, `cursor.lastrowid`; or both statements in `atomic()` or in `djworker.db.sticky()`.
    """


class LeaseClosed(InterfaceError):
    """A connection or cursor is used after its end: Django's `connection.close()`, or the end of the request."""


class CursorClosed(LeaseClosed, ProgrammingError):
    """A cursor is used after its end, or before it has executed anything.

    psycopg calls that an InterfaceError, the MySQL libraries a ProgrammingError. Code that catches one of them
    catches this error.
    """

"""How a lease says no: refusals rather than an answer from the wrong session."""

from __future__ import annotations

from django.db import InterfaceError, OperationalError, ProgrammingError


class ConnectionLost(OperationalError):
    """The connection was lost inside a transaction or with session state on it, or what later statements rely on did not run.

    To go on would run the rest as if nothing had happened: a transfer by half, a query in another tenant's schema. Remedy:
    leave the `atomic()` block (or roll back); outside of a transaction, `connection.close()`. Then begin again.
    """


class StatementRunning(ProgrammingError):
    """A statement inside a statement of the same greenlet, where the client library would wait for itself for ever.

    Remedy: run one before the other; with psycopg 3, read what `copy()` or `stream()` gives before the next query.
    """


class ReadBackLost(OperationalError):
    """What an earlier statement left in its session is asked for, and that session is no longer ours alone.

    Remedy: `RETURNING`, `cursor.lastrowid`; or both statements in `atomic()` or in `djworker.db.sticky()`.
    """


class LeaseClosed(InterfaceError):
    """A connection or cursor is used after its end: Django's `connection.close()`, or the end of the request."""


class CursorClosed(LeaseClosed, ProgrammingError):
    """A cursor is used after its end, or before it has executed anything.

    psycopg calls that an InterfaceError, the MySQL libraries a ProgrammingError: who catches either goes on catching it.
    """

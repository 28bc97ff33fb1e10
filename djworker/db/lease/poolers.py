"""A pooler in transaction mode between us and PostgreSQL: what one connection sets, another one sees."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from djworker.db.drivers.turns import at_most

if TYPE_CHECKING:
    from collections.abc import Callable

    from djworker.db.lease.protocols import RawConnection, RawDriver

#: Seconds. A pooler in session mode that is full lets the second connection wait; then nothing is known.
_LIMIT: Final = 0.5
#: Count. A busy pooler may give a session to a stranger in between.
_ROUNDS: Final = 3
_SET: Final = "SELECT pg_catalog.set_config('djworker.probe', %s, false)"
_GET: Final = "SELECT pg_catalog.current_setting('djworker.probe', true)"


def stands_between(conn: RawConnection, backend_id: int) -> bool:
    """Whether the session that answers is another than the one that let us in. One round trip.

    backend_id: the number of the session as the login had it. A pooler makes up a number of its own there.
    """
    return bool(_ask(conn, "SELECT pg_catalog.pg_backend_pid()") != backend_id)


def multiplexes(conn: RawConnection, green: RawDriver, connect: Callable[[], RawConnection]) -> bool:
    """Whether statements of one connection run in sessions that others use too. Certain if true; takes half a second at most.

    Args:
        conn: a connection in autocommit mode, whose setting `djworker.probe` is empty afterwards.
        green: its library's driver.
        connect: opens a second one, which is closed again.
    """
    other = None
    try:
        with at_most(_LIMIT), suppress(green.error):
            other = connect()
            green.set_autocommit(other, True)
            return any(_leaks(conn, other) for _ in range(_ROUNDS))
    finally:
        if other is not None and (green.busy(other) or green.is_broken(other)):
            green.forget(other)  # it waits in the pooler's queue, where a good-bye is not answered
        elif other is not None:
            green.close(other)
    return False


def _leaks(conn: RawConnection, other: RawConnection) -> bool:
    token = secrets.token_hex(8)
    _ask(conn, _SET, token)
    try:
        return bool(_ask(conn, _GET) != token or _ask(other, _GET) == token)
    finally:
        _ask(conn, _SET, "")


def _ask(conn: RawConnection, sql: str, *params: str) -> object:
    with conn.cursor() as cursor:
        cursor.execute(sql, params or None)
        row = cursor.fetchone()
        return row[0] if row is not None else None

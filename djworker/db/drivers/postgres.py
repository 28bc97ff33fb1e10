"""What both PostgreSQL drivers share: how the server says that it is of no more use.

How a statement is ended and its session kept (`RequestEnded`). A cancel goes over a line of its own. It must never hit the
statement after the one that it is for, a stranger's perhaps:

* The greenlet that waits for the statement sends the cancel itself, so nothing else runs on the connection meanwhile.
* It waits until the server has hung up on that line. The process that hears of a cancel there has sent its signal by then.
* The kernel hands a signal to the session before that reads anything which was sent later, and a session that reads drops a
  cancel (`PostgresMain`, `ProcessInterrupts`): "a no-op when there is no query in progress".
* The session is kept only where the statement's own answer was query_canceled, so that the cancel has had its effect.

A pooler in between hangs up when it likes: behind one (`LeasedPool.ends_late`) the session goes.
"""

from __future__ import annotations

from typing import Final, Protocol

from djworker.db.drivers.news import News, was_logged_in

#: SQLSTATEs (PostgreSQL, Appendix A): read_only_sql_transaction; admin_shutdown, crash_shutdown, cannot_connect_now;
#: invalid_sql_statement_name, duplicate_prepared_statement.
_NEWS: Final = {
    "25006": News.READ_ONLY,
    "57P01": News.LEAVING,
    "57P02": News.LEAVING,
    "57P03": News.LEAVING,
    "26000": News.STALE_PLAN,
    "42P05": News.STALE_PLAN,
}
_FEATURE_NOT_SUPPORTED: Final = "0A000"
#: The function of the server that says "cached plan must not change result type". The text itself is translated.
_REVALIDATES: Final = "RevalidateCachedQuery"
#: An operator, or a watchdog, has ended this session, and no other: admin_shutdown, query_canceled.
_ENDED_BY_HAND: Final = frozenset({"57P01", "57014"})
#: libpq hands out no SQLSTATE for what ends a login.
_ENDED_BY_HAND_TEXT: Final = "terminating connection due to administrator command"

#: Asked after DISCARD ALL, so that the session has not asked for it. A default of the role, of the database or of the
#: client's own parameters is wanted; what stands in the server's configuration is a server that was made read-only.
REFUSES_WRITES: Final = """SELECT pg_catalog.pg_is_in_recovery() OR EXISTS (
    SELECT FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only' AND setting = 'on'
    AND source NOT IN ('client', 'user', 'database', 'database user', 'session'))"""


class Diagnosis(Protocol):
    """What a library tells of an error of the server's."""

    @property
    def source_function(self) -> str | None:
        """The function of the server's that has reported it."""


def news_of(code: str | None, diagnosis: Diagnosis) -> News | None:
    """See `Driver.news`. code: the SQLSTATE; diagnosis: the error's `diag`."""
    if code == _FEATURE_NOT_SUPPORTED:
        return News.STALE_PLAN if diagnosis.source_function == _REVALIDATES else None
    return _NEWS.get(code or "")


def was_ended(code: str | None, error: BaseException) -> bool:
    """See `Driver.ended_by_hand`. After the login, a session that is lost without a word was ended too."""
    if code:
        return code in _ENDED_BY_HAND
    return was_logged_in(error) or _ENDED_BY_HAND_TEXT in str(error)

"""What an error says of the server that it came from, beyond the statement that failed."""

from __future__ import annotations

import enum
from typing import Final

#: Set on an error of `connect` that came after the server had accepted the login.
_LOGGED_IN: Final = "djworker_logged_in"


class News(enum.Enum):
    """What a server may say with an error."""

    READ_ONLY = "read-only"  # it refuses writes; perhaps because the application asked for that
    LEAVING = "leaving"  # it shuts down, or has lost its cluster: other connections to it are of no more use
    STALE_PLAN = "stale plan"  # a prepared statement does not fit its tables any more


def logged_in(error: BaseException) -> None:
    """Note that the server had accepted the login when this error came."""
    setattr(error, _LOGGED_IN, True)


def was_logged_in(error: BaseException) -> bool:
    """Whether `logged_in` was called for the error."""
    return getattr(error, _LOGGED_IN, False)

"""The id of the request that runs: for log records, and for code that asks.

It is in a context variable, which tasks of asyncio and ``sync_to_async`` hand on. Greenlets and threads that a request begins
have an empty context, as threads always had: give them ``contextvars.copy_context().run`` to call.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Final

__all__ = ["NONE", "RequestId", "current", "enter"]

#: What a record has that no request's code has made.
NONE: Final = "-"
_id: Final[ContextVar[str]] = ContextVar("djworker.request_id", default=NONE)

#: Have this id, in the context of one request.
enter = _id.set


def current() -> str:
    """Return the id of the request that this code runs for; ``-`` outside of requests, and where `request_id` is off."""
    return _id.get()


class RequestId(logging.Filter):
    """Gives each record a ``request_id``, for ``%(request_id)s`` in a format. Lets all pass.

    The option `request_id` puts it on every handler. In ``LOGGING`` it may also stand by itself, as
    ``{"()": "djworker.log.RequestId"}``; then the format works under other servers, and in commands, too.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep an id that the project has given itself."""
        if "request_id" not in record.__dict__:
            record.request_id = _id.get()
        return True

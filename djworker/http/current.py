"""Which request the calling code works for. Nothing is noted for it while requests run: frames show it."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from gevent import getcurrent

from djworker.greenlets import spawners_of, upwards
from djworker.http.connection import Connection
from djworker.http.wsgi import Exchange

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["current"]

_RUN: Final = Exchange.run.__code__
#: What was found before, for code in other threads to which asgiref carries the context.
_found: ContextVar[Exchange | None] = ContextVar("djworker_exchange", default=None)


def current() -> Connection | None:
    """Return the connection whose request the calling code works for; None where it is no request's, or that has ended."""
    exchange = _found.get()
    if exchange is None:
        exchange = _in_frames(sys._getframe()) or _in_spawning(getcurrent())  # noqa: SLF001 - no public way
        if exchange is None:
            return None
        _found.set(exchange)
    connection = exchange.sink
    return connection if isinstance(connection, Connection) and connection.exchange is exchange else None


def _in_frames(frame: FrameType | None) -> Exchange | None:
    for above in upwards(frame):
        if above.f_code is _RUN:
            exchange: Exchange = above.f_locals["self"]
            return exchange
    return None


def _in_spawning(greenlet: Any) -> Exchange | None:
    """Look at the greenlets that have spawned this one, each of which waits."""
    for spawner in spawners_of(greenlet):
        if (exchange := _in_frames(spawner.gr_frame)) is not None:
            return exchange
    return None

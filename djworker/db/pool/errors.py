"""How a pool says no: plain exceptions, and the table by which an owner puts its own in their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


class PoolError(Exception):
    """Any refusal of a pool."""


class AcquireTimeout(PoolError):
    """No connection within the time the caller gave. The message carries the numbers and the holders."""


class QueueFull(PoolError):
    """`max_waiting` acquirers are queued already: refused at once, without waiting."""


class Closed(PoolError):
    """The pool is closed, or was left behind by a fork."""


class Unavailable(PoolError):
    """The server cannot be reached; `__cause__` is the driver's last error. Raised at once during an outage."""


class ForeignThread(PoolError):
    """A pool is asked in a native thread. Its greenlets live in the main thread, and cannot be woken from elsewhere."""


@dataclass(frozen=True, slots=True)
class Refusals:
    """The classes a pool raises; `djworker.db.errors.DJANGO` makes them `django.db.OperationalError`."""

    timeout: type[Exception] = AcquireTimeout
    too_many_waiting: type[Exception] = QueueFull
    closed: type[Exception] = Closed
    unavailable: type[Exception] = Unavailable
    wrong_thread: type[Exception] = ForeignThread


PLAIN: Final = Refusals()

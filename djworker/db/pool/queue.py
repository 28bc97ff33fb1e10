"""Greenlets that wait for a connection: first in, first served, and every hand-off is acknowledged."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic

from gevent.hub import Waiter as HubWaiter

from djworker.bug import Bug
from djworker.db.pool.driver import C

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.hub import Hub

    from djworker.db.pool.slots import Slot


class Waiter(Generic[C]):
    """[worker] One greenlet in the queue.

    It is completed once, with a slot or with an error, by what takes it off the queue. Between that moment and its
    waking the slot is OFFERED, not LEASED: a waiter that is killed in between finds it in `slot` and passes it on.
    """

    __slots__ = ("_wake", "completed", "connect", "deadline", "error", "hub", "offered_at", "since", "slot", "timeout")

    def __init__(self, hub: Hub, since: float, timeout: float, connect: Callable[[], C] | None) -> None:
        self.hub = hub
        self._wake: HubWaiter[None] = HubWaiter(hub)
        self.since = since
        self.timeout = timeout
        self.deadline = since + timeout
        self.connect = connect
        self.slot: Slot[C] | None = None
        self.offered_at = math.inf
        self.error: Exception | None = None
        #: Whether there is an outcome.
        self.completed = False

    def __repr__(self) -> str:
        return f"<waiter since {self.since:.3f}, {self.slot or self.error or 'waits'}>"

    def offer(self, slot: Slot[C]) -> None:
        """Complete the wait with a slot. Does not switch."""
        self._complete()
        self.slot = slot

    def fail(self, error: Exception) -> None:
        """Complete the wait with an error. Does not switch."""
        self._complete()
        self.error = error

    def wait(self) -> None:
        """Sleep until the wait is completed."""
        if not self.completed:
            self._wake.get()
        if not self.completed:
            msg = "bug: a waiter was woken up with nothing"
            raise Bug(msg)

    def _complete(self) -> None:
        if self.completed:
            msg = "bug: a waiter was completed twice"
            raise Bug(msg)
        self.completed = True
        self.hub.loop.run_callback(self._wake.switch, None)


class WaitQueue(Generic[C]):
    """[worker] The waiters without an outcome, oldest first."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        # A dict, for a crowd of waiters that is killed leaves from the middle; ordered, because a plain dict walks over
        # the graves of all former firsts to find the first.
        self.waiting: OrderedDict[Waiter[C], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self.waiting)

    def add(self, waiter: Waiter[C]) -> None:
        """Queue up."""
        self.waiting[waiter] = None

    def oldest(self) -> Waiter[C]:
        """The next to be served; stays in the queue."""
        return next(iter(self.waiting))

    def pop(self) -> Waiter[C]:
        """Take the oldest off the queue."""
        return self.waiting.popitem(last=False)[0]

    def leave(self, waiter: Waiter[C]) -> bool:
        """A waiter gives up. False if it was completed already."""
        if waiter not in self.waiting:
            return False
        del self.waiting[waiter]
        return True

    def pop_overdue(self, now: float) -> list[Waiter[C]]:
        """Take waiters off the queue whose time is up."""
        overdue = [waiter for waiter in self.waiting if waiter.deadline <= now]
        for waiter in overdue:
            del self.waiting[waiter]
        return overdue

    def next_deadline(self) -> float | None:
        """When the first of them runs out of time."""
        return min((waiter.deadline for waiter in self.waiting), default=None)

"""The concurrency limit: permits to run a request, as many as may run at once, given in the order of arrival.

A connection has a permit, or it has none: its `has_permit`, and one of `taken` here. Both change in one step, in which nothing
switches greenlets. There are four moves, and each has one place:

* a request finds a permit free, and no other request waits: `Connection._next_head` takes it, for as a call this would cost each
  request 0.9 % of its instructions
* a request waits for one: `acquire`
* the request is over, or waits for its client: `give_back`
* a request that has waited for its client goes on, or asks for the worker's health: `resume`, which waits for nothing

To take a permit with one in hand is a bug, and raises. To give back what is not there is none: the end of a connection does not
ask how it came to that.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from gevent.event import Event

from djworker.bug import Bug

__all__ = ["ConcurrencyLimit", "PermitHolder"]

_TWICE: Final = "bug: a connection takes a second permit"


class PermitHolder(Protocol):
    """[worker] A connection, as far as it matters here."""

    has_permit: bool


class ConcurrencyLimit:
    """[worker] FIFO permits for requests that are complete as far as their application needs them to begin.

    A connection without a request, a head that is still coming, and a request that waits for its client hold none.
    """

    __slots__ = ("limit", "queue", "taken")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # More than limit where requests that had stepped out go on: see resume().
        self.taken = 0
        self.queue: deque[Event] = deque()

    def acquire(self, holder: PermitHolder, timeout: float) -> bool:
        """Take one, waiting for it up to timeout seconds; say whether there was one.

        Raises:
            Bug: the holder has one.
        """
        if holder.has_permit:
            raise Bug(_TWICE)
        turn = Event()
        self.queue.append(turn)
        self._hand_out()
        try:
            holder.has_permit = bool(turn.wait(timeout))
        finally:
            if not holder.has_permit:
                self._leave(turn)
        return holder.has_permit

    def _leave(self, turn: Event) -> None:
        """Undo a wait that ended without a permit; give one back that came while the waiter was being killed."""
        if turn in self.queue:
            self.queue.remove(turn)
        elif turn.is_set():
            self.taken -= 1
            self._hand_out()

    def give_back(self, holder: PermitHolder) -> None:
        """Give the permit back, if there is one. Each request comes through here."""
        if holder.has_permit:
            holder.has_permit = False
            self.taken -= 1
            if self.queue:
                self._hand_out()

    def resume(self, holder: PermitHolder) -> None:
        """Take one for a request that gave its own back while it waited for its client, or for a health check.

        It does not wait, because what it holds of the application's, a lock for example, may be what others with a permit
        wait for. While more are taken than the limit, no other request begins.

        Raises:
            Bug: the holder has one.
        """
        if holder.has_permit:
            raise Bug(_TWICE)
        self.taken += 1
        holder.has_permit = True

    def _hand_out(self) -> None:
        """Give what is free to those that wait."""
        while self.queue and self.taken < self.limit:
            self.taken += 1
            self.queue.popleft().set()

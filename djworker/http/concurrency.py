"""The concurrency limit: permits to run a request, as many as may run at once, given in the order of arrival.

A connection has a permit, or it has none: its `has_permit`, and one of `taken` here. Both change in the same step, and nothing
switches greenlets in between. There are four ways:

* taken: `ConcurrencyLimit.acquire` for a request that waits, `Connection._permitted` for one that finds a permit free
* given back: `release`, by way of `IdleConnection.give_back`
* taken up again after a wait for the client: `resume`, which waits for nothing
* handed on to the next that waits: `hand_out`

Two of these are written out where a kept connection goes on: the free permit in `Connection._next_head`, its return in
`IdleConnection._kept_bytes`. As calls they cost 1300 instructions more, of 52 000 for a request: 2.5 %. Change a copy with
its original.
"""

from __future__ import annotations

from collections import deque

from gevent.event import Event

__all__ = ["ConcurrencyLimit"]


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

    def acquire(self, timeout: float) -> bool:
        """Take one, waiting for it up to timeout seconds; say whether there was one."""
        turn = Event()
        self.queue.append(turn)
        self.hand_out()
        granted = False
        try:
            granted = bool(turn.wait(timeout))
        finally:
            if not granted:
                self._leave(turn)
        return granted

    def _leave(self, turn: Event) -> None:
        """Undo a wait that ended without a permit; give one back that came while the waiter was being killed."""
        if turn in self.queue:
            self.queue.remove(turn)
        elif turn.is_set():
            self.release()

    def release(self) -> None:
        """Give one back."""
        self.taken -= 1
        if self.queue:
            self.hand_out()

    def resume(self) -> None:
        """Take one for a request that gave its own back while it waited for its client.

        It does not wait, because what it holds of the application's, a lock for example, may be what others with a permit
        wait for. While more are taken than the limit, no other request begins.
        """
        self.taken += 1

    def hand_out(self) -> None:
        """Give what is free to those that wait."""
        while self.queue and self.taken < self.limit:
            self.taken += 1
            self.queue.popleft().set()

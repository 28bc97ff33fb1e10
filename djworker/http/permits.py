"""Permits to run a request: a bound on what runs at once, in the order of arrival."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from gevent import get_hub
from gevent.event import Event

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Permits"]

# Seconds that a permit offered to the accept loop stays its own. Time for one turn of the hub.
OFFER: Final = 0.002


class Permits:
    """[worker] FIFO permits for kept connections and for the accept loop, which stands in the same queue.

    Without its place there, busy keep-alive clients would hand the permits to each other, and no new client would get
    one (puma CVE-2021-29509). The usual case, nobody waiting, is written out in Connection, for its speed.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self.on_free: Callable[[], None] | None = None
        # Events of waiting connections; None is the accept loop's place, there is at most one.
        self.queue: deque[Event | None] = deque()
        self._offer: Any = None

    def take_free(self) -> bool:
        """Take one for an accepted connection. Where a burst of them was accepted for one permit, the rest waits."""
        if self.taken >= self.limit:
            return False
        self.taken += 1
        return True

    def offers(self) -> bool:
        """Is there one for another connection? Where not, the accept loop is queued, and on_free will be called."""
        if self.taken < self.limit:
            return True
        if None not in self.queue:
            self.queue.append(None)
        return False

    @property
    def contended(self) -> bool:
        """Somebody waits."""
        return bool(self.queue)

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

    def hand_out(self) -> None:
        """Give what is free to those who wait."""
        while self.queue and self.taken < self.limit:
            turn = self.queue.popleft()
            if turn is None:
                self._offer_to_accept()
                return
            self.taken += 1
            turn.set()

    def _offer_to_accept(self) -> None:
        """Leave a permit for the accept loop; if nobody connects, it goes to the next in the queue."""
        if self.queue:
            if self._offer is None:
                self._offer = get_hub().loop.timer(OFFER)
            if not self._offer.active:
                self._offer.start(self.hand_out)
        if self.on_free is not None:
            self.on_free()

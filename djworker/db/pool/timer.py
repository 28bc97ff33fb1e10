"""One timer that is only ever as early as the next thing to do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent._types import _TimerWatcher
    from gevent.hub import Hub

#: Seconds. A deadline that is due but cannot be met (or a clock that stands still, in tests) must not spin the hub.
_SHORTEST: Final = 0.001


class Timer:
    """[worker] Calls `action` in the hub when the earliest deadline it was told of has come.

    `keeps_alive` says whether a pending timer keeps the event loop running: yes while a greenlet waits for it, no for upkeep.
    A deadline that is no longer of interest is not withdrawn: the timer rings for nothing and is set again. So a busy
    pool sets it about once per time-out, not once per waiter.
    """

    __slots__ = ("_action", "_clock", "_keeps_alive", "_timer", "at")

    def __init__(self, action: Callable[[], None], clock: Callable[[], float], *, keeps_alive: bool) -> None:
        self._action = action
        self._clock = clock
        self._keeps_alive = keeps_alive
        self._timer: _TimerWatcher | None = None
        self.at = math.inf

    def no_later_than(self, hub: Hub, when: float) -> None:
        """Ring at `when`, unless it rings before that anyway."""
        if when < self.at:
            self.cancel()
            self.at = when
            delay = max(when - self._clock(), _SHORTEST)
            self._timer = hub.loop.timer(delay, ref=self._keeps_alive)
            self._timer.start(self._ring, update=True)

    def cancel(self) -> None:
        """Forget the deadline."""
        self.at = math.inf
        timer, self._timer = self._timer, None
        if timer is not None:
            try:
                timer.stop()
                timer.close()
            except ValueError:  # the loop was destroyed, as the mold does with its own, and the timer with it
                return

    def _ring(self) -> None:
        self.cancel()
        self._action()

"""How many connections each worker of a generation serves, so that a crowd at the door is shared fairly.

Several workers wait on one listening socket, and the one that the kernel wakes first would take a whole crowd. They can only
share it if they know of each other. The arbiter never reads this: a worker that lies here can delay others by ``HOLD`` for
each portion, and no more.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from typing import Final

from djworker.ipc.scoreboard import SLOTS

__all__ = ["Balance", "Share"]

_WORD: Final = 8
#: Seconds after which a worker that has not written is taken for blocked or gone; it writes with each beat (0.5 s).
_FRESH: Final = 1.2


class Balance:
    """[mold, worker] One shared mapping for the workers that a mold forks: load and time for each slot."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._words: memoryview[float] = memoryview(mmap.mmap(-1, 2 * SLOTS * _WORD)).cast("d")

    def share(self, slot: int, workers: int) -> Share:
        """Return the view of the worker in a slot, one of so many."""
        # Those that retire hold slots too.
        return Share(self._words, slot, min(SLOTS, max(slot + 1, 2 * workers + 2)), self._clock)


class Share:
    """[worker] What a worker tells of itself, and what it may take."""

    def __init__(self, words: memoryview[float], slot: int, slots: int, clock: Callable[[], float]) -> None:
        self._words = words
        self._mine = 2 * slot
        self._others = [2 * other for other in range(slots) if other != slot]
        self._clock = clock

    def tell(self, load: int) -> None:
        """Write how many connections this worker serves."""
        self._words[self._mine] = load
        self._words[self._mine + 1] = self._clock()

    def forget(self) -> None:
        """Take no connection any more."""
        self._words[self._mine + 1] = 0.0

    def part(self, load: int, waiting: int) -> int:
        """Return how many of the connections that wait in the kernel are this worker's part; load: what it serves."""
        self.tell(load)
        words, since = self._words, self._clock() - _FRESH
        others = [words[word] for word in self._others if words[word + 1] > since]
        fair = -(-(load + waiting + sum(others)) // (len(others) + 1))
        return min(waiting, max(0, int(fair) - load))

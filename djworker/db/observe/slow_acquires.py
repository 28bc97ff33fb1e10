"""Acquires that waited for long: noted while they happen, told of at the next beat."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from djworker.db.pool.slots import Label

#: In an overload thousands wait; these show where, and the others are counted.
KEPT: Final = 20


class SlowAcquire(NamedTuple):
    """One of them."""

    waited: float  # seconds
    label: Label
    numbers: Mapping[str, float]  # of the pool, when the wait was over


class SlowAcquires:
    """[worker] Those of one pool since the last beat.

    Noting one neither switches nor logs: its greenlet has just been offered a connection.
    """

    __slots__ = ("_kept", "_others", "_threshold")

    def __init__(self, threshold: float) -> None:
        """threshold: seconds, 0 for never."""
        self._threshold = threshold or math.inf
        self._kept: list[SlowAcquire] = []
        self._others = 0

    def note(self, waited: float, label: Label, numbers: Callable[[], Mapping[str, float]]) -> None:
        """An acquire has waited.

        Args:
            waited: seconds.
            label: whose it was.
            numbers: gives the pool's gauges of this moment.
        """
        if waited < self._threshold:
            return
        if len(self._kept) < KEPT:
            self._kept.append(SlowAcquire(waited, label, numbers()))
        else:
            self._others += 1

    def take(self) -> tuple[list[SlowAcquire], int]:
        """The longest first, and the number of those that were not kept; they are noted no more."""
        kept, others = sorted(self._kept, key=lambda item: -item.waited), self._others
        self._kept, self._others = [], 0
        return kept, others

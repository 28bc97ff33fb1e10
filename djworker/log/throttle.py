"""Not the same line again and again: one per subject and minute, with a count of those that were left out."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

PERIOD: Final = 60.0  # seconds
SUBJECTS: Final = 1000  # remembered; above, the one that was logged the longest ago is forgotten


class Throttle:
    """[worker] Pure: time is an argument."""

    __slots__ = ("_known", "_period")

    def __init__(self, period: float = PERIOD) -> None:
        self._period = period
        self._known: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()  # when it was logged, left out since then

    def __len__(self) -> int:
        return len(self._known)

    def admit(self, subject: Hashable, now: float) -> int | None:
        """How many were left out since the last line, if this one may be logged now; None if it is left out."""
        since, left_out = self._known.get(subject, (-PERIOD, 0))
        if subject in self._known and now - since < self._period:
            self._known[subject] = (since, left_out + 1)
            return None
        self._known[subject] = (now, 0)
        self._known.move_to_end(subject)
        if len(self._known) > SUBJECTS:
            self._known.popitem(last=False)
        return left_out

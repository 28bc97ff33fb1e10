"""How long requests took, as counts in buckets: fine enough that half of them, or all but one of a hundred, have a time.

A worker counts each request in its row of the scoreboard. Two readings of a row, one taken from the other, say how long those
requests took that ended between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["BOUNDS", "BUCKETS", "quantile"]

#: Ten steps to a decade, each at most a third longer than the one before: what is told of a request is true within that.
_STEPS: Final = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
#: Seconds: from a tenth of a millisecond, in which no view of Django's answers, to over a minute and a half.
BOUNDS: Final = (*(step * 10.0**power for power in range(-4, 2) for step in _STEPS), 100.0)
#: One more than there are bounds: what took longer than the last.
BUCKETS: Final = len(BOUNDS) + 1


def quantile(counts: Sequence[int], part: float) -> float | None:
    """Return the seconds within which a part of the requests was answered; None where there was none.

    Args:
        counts: of each bucket.
        part: of all requests, from 0 to 1: 0.5 for the median.
    """
    rank = part * sum(counts)
    if rank <= 0:
        return None
    below, lowest = 0, 0.0
    for count, bound in zip(counts, BOUNDS, strict=False):
        if below + count >= rank:
            return lowest + (bound - lowest) * (rank - below) / count
        below, lowest = below + count, bound
    return BOUNDS[-1]

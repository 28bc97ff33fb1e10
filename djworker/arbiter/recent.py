"""What workers have done lately, from two readings of their rows: requests a second, processor time, how long requests took.

It costs nothing while no client asks: workers are read when a client wants to know, at most once a second, and for the history.
The clock is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final, NamedTuple

from djworker.ipc.latency import BUCKETS, quantile
from djworker.units import NANOSECONDS

__all__ = ["Count", "Lately", "Recent"]

#: Seconds between two readings that rates are told from: with less, a rate is an accident.
SHORTEST: Final = 1.0


class Count(NamedTuple):
    """What one worker has counted since its fork. cpu: nanoseconds; latencies: see ``djworker.ipc.latency``."""

    requests: int = 0
    errors: int = 0
    cpu: int = 0
    latencies: tuple[int, ...] = (0,) * BUCKETS

    def since(self, before: Count) -> Count:
        """Return what was counted between two readings."""
        latencies = tuple(map(int.__sub__, self.latencies, before.latencies))
        return Count(self.requests - before.requests, self.errors - before.errors, self.cpu - before.cpu, latencies)

    def plus(self, other: Count) -> Count:
        """Return the sum."""
        latencies = tuple(map(int.__add__, self.latencies, other.latencies))
        return Count(self.requests + other.requests, self.errors + other.errors, self.cpu + other.cpu, latencies)


class Lately(NamedTuple):
    """Per second, seconds for half and for 99 of 100 requests, processors that were busy."""

    requests: float = 0.0
    errors: float = 0.0
    cpu: float = 0.0
    p50: float | None = None
    p99: float | None = None


#: By the arbiter's number of a worker.
Counts = Mapping[int, Count]


@dataclass(frozen=True, slots=True)
class _Reading:
    at: float = -inf
    counts: Counts = field(default_factory=dict)

    def after(self, before: _Reading) -> float:
        """Seconds between the two."""
        return self.at - before.at if before.at > -inf else inf

    def since(self, before: _Reading) -> dict[int, Count]:
        """What each worker has counted; one that is new there has begun meanwhile."""
        return {number: count.since(before.counts.get(number, Count())) for number, count in self.counts.items()}


def _sum(counts: Mapping[int, Count]) -> Count:
    total = Count()
    for count in counts.values():
        total = total.plus(count)
    return total


def _lately(count: Count, elapsed: float, latencies: tuple[int, ...]) -> Lately:
    """elapsed: seconds in which that was counted; endless, where there was no reading before."""
    return Lately(
        count.requests / elapsed,
        count.errors / elapsed,
        count.cpu / NANOSECONDS / elapsed,
        quantile(latencies, 0.5),
        quantile(latencies, 0.99),
    )


class Recent:
    """[arbiter] Keeps the readings that the next ones are compared with.

    Rates are of the time between the last two readings, a second at least. Latencies are of a longer time, the last one or two
    intervals of the history: of a few requests, the one that 99 of 100 are faster than is an accident.
    """

    def __init__(self) -> None:
        self._before = self._last = _Reading()
        self._told_before = self._told = _Reading()
        self._gone = Count()

    def due(self, now: float) -> bool:
        """Whether a reading that is taken now says more than the last one."""
        return now - self._last.at >= SHORTEST

    def read(self, counts: Counts, now: float) -> None:
        """Take a reading in.

        Args:
            counts: of all workers.
            now: seconds, of a clock that never goes back.
        """
        self._before, self._last = self._last, _Reading(now, dict(counts))

    def gone(self, number: int, count: Count) -> None:
        """A worker has ended: its counts since the history was told last are part of the next sample."""
        self._gone = self._gone.plus(count.since(self._told.counts.get(number, Count())))

    def workers(self) -> dict[int, Lately]:
        """Return what each worker has done lately."""
        elapsed = self._last.after(self._before)
        latencies = self._last.since(self._told_before)
        return {
            number: _lately(count, elapsed, latencies[number].latencies)
            for number, count in self._last.since(self._before).items()
        }

    def total(self) -> Lately:
        """Return what they have done together."""
        count, longer = _sum(self._last.since(self._before)), _sum(self._last.since(self._told_before))
        return _lately(count, self._last.after(self._before), longer.latencies)

    def tell(self, counts: Counts, now: float) -> Lately:
        """Return what all workers, those included that have ended, have done since the last call. Arguments as of ``read``."""
        reading = _Reading(now, dict(counts))
        count = _sum(reading.since(self._told)).plus(self._gone)
        told = _lately(count, reading.after(self._told), count.latencies)
        self._told_before, self._told, self._gone = self._told, reading, Count()
        if self.due(now):
            self.read(counts, now)
        return told

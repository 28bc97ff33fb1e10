"""How many workers there shall be between ``2..8``: decided by how busy they are, and by nothing that happens only once.

Three signs say that there are too few: how long their main threads run or wait for a processor (a worker has one at the most,
and less where others take the machine), requests that wait to begin, and a hub that comes late to what is due. They must be
there for ``GROW_AFTER`` seconds. One sign says that there are too many: the work would fit into one worker less, with room to
spare, for ``SHRINK_AFTER`` seconds. Between the two lies a wide band in which nothing changes, so that the number does not
swing. The clock is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final, NamedTuple

__all__ = ["Reading", "Scaler", "SizeVerdict"]

#: Part of the time for which workers run or wait to run, on average, above which more are wanted; queues grow steeply from there.
BUSY: Final = 0.7
#: The same with one worker less, below which fewer are.
IDLE: Final = 0.4
#: The same, from which on a late hub is the work's doing.
WORKING: Final = 0.2
#: Requests that wait to begin, for each worker.
QUEUED: Final = 1.0
#: Seconds that a hub is late.
LATE: Final = 0.1
#: Seconds that a sign must last, and between two steps up: a worker takes one or two to come, and to make itself felt.
GROW_AFTER: Final = 2.0
#: Seconds for a step down, the first of which comes after a pause; a worker that is gone is missed for seconds.
SHRINK_AFTER: Final = 20.0
NEXT_SHRINK: Final = 8.0
#: Seconds between two looks.
LOOK: Final = 0.5
#: So much more memory than the largest worker has must be free for another one.
ROOM: Final = 1.25
#: Seconds between two complaints that memory is short.
COMPLAINT: Final = 60.0


class Reading(NamedTuple):
    """What is known of one worker.

    busy: seconds since its fork for which its main thread has run, or waited for a processor; queued: requests; late: seconds;
    resident: bytes.
    """

    busy: float
    queued: int
    late: float
    resident: int


class SizeVerdict(NamedTuple):
    """A number of workers, and why. ``workers`` is what there is where memory is short."""

    workers: int
    reason: str


@dataclass(slots=True)
class Scaler:
    """[arbiter] Looks at the readings twice a second; says when the number of workers shall change."""

    least: int
    most: int
    _last: Mapping[int, Reading] = field(default_factory=dict)
    _looked_at: float = -inf
    #: Since when there are too few, or too many; infinity while there are not.
    _few_since: float = inf
    _many_since: float = inf
    _changed_at: float = -inf
    _complained_at: float = -inf

    def due(self) -> float:
        """When to look next."""
        return self._looked_at + LOOK

    def look(self, readings: Mapping[int, Reading], workers: int, free: int, now: float) -> SizeVerdict | None:
        """Judge.

        Args:
            readings: of the workers that accept, by a key that no two workers ever share.
            workers: how many there shall be now.
            free: bytes of memory that more workers could take.
            now: seconds.
        """
        elapsed, last = now - self._looked_at, self._last
        self._looked_at, self._last = now, dict(readings)
        known = [(readings[key], last[key]) for key in readings if key in last]
        if not known or elapsed > 20 * LOOK:
            return None
        busy = sum(new.busy - old.busy for new, old in known) / elapsed
        few = self._why_few(readings, busy / len(known), len(known))
        many = not few and workers > self.least and busy / max(workers - 1, 1) < IDLE
        self._few_since = min(self._few_since, now) if few else inf
        self._many_since = min(self._many_since, now) if many else inf
        if workers < self.least or workers > self.most:  # a reload has brought other bounds
            return self._change(min(max(workers, self.least), self.most), "other bounds", now)
        if few and len(readings) >= workers:
            return self._grow(readings, workers, free, now, few)
        return self._shrink(workers, busy, now) if many else None

    def _why_few(self, readings: Mapping[int, Reading], busy: float, known: int) -> str:
        queued = sum(reading.queued for reading in readings.values()) / known
        late = sum(reading.late for reading in readings.values()) / known
        if busy > BUSY:
            return f"workers are busy for {busy:.0%} of the time"
        if queued > QUEUED:
            return f"{queued:.1f} requests for each worker wait to begin"
        # Hubs of idle workers are late where others take the machine, and more workers would not help.
        return f"hubs are {late * 1000:.0f} ms late" if late > LATE and busy > WORKING else ""

    def _grow(
        self, readings: Mapping[int, Reading], workers: int, free: int, now: float, reason: str
    ) -> SizeVerdict | None:
        if workers >= self.most or now - max(self._few_since, self._changed_at) < GROW_AFTER:
            return None
        wanted = ROOM * max(reading.resident for reading in readings.values())
        if free < wanted:
            if now - self._complained_at < COMPLAINT:
                return None
            self._complained_at = now
            text = f"{reason}, but memory is short: {free >> 20} MiB free, {int(wanted) >> 20} wanted for one more"
            return SizeVerdict(workers, text)
        return self._change(workers + 1, reason, now)

    def _shrink(self, workers: int, busy: float, now: float) -> SizeVerdict | None:
        lasted = now - max(self._many_since, self._changed_at)
        shrinking = self._many_since < self._changed_at  # the step before was one down
        if lasted < (NEXT_SHRINK if shrinking else SHRINK_AFTER):
            return None
        since = self._many_since
        verdict = self._change(workers - 1, f"workers are busy for {busy / workers:.0%} of the time", now)
        self._many_since = since
        return verdict

    def _change(self, workers: int, reason: str, now: float) -> SizeVerdict:
        self._changed_at = now
        self._few_since = self._many_since = inf
        return SizeVerdict(workers, reason)

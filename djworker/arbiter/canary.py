"""A canary: the first worker of a new generation serves beside the old ones for a while, and is compared with them.

Code that boots, and answers the probe, may still fail what visitors really ask. The canary gets its share of the connections; no
other new worker comes, and no old one goes, before its time is over. Pure: what workers count is given, and time is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

#: Seconds between two looks. Workers tell their numbers as often.
LOOK: Final = 0.5
#: Failed answers that are no accident any more, and by how much more of its answers must be failures than of the others'.
FEWEST_ERRORS: Final = 3
TIMES: Final = 2.0
SHARE: Final = 0.01
#: Stalls of its hub beyond twice what an old worker has on average.
STALLS: Final = 1


class Sample(NamedTuple):
    """[arbiter] What a worker has counted since its fork: answers, those of them that are 5xx, stalls of its hub."""

    requests: int
    errors: int
    stalls: int


@dataclass(slots=True)
class Canary:
    """[arbiter] One watch. before: what the old workers had counted when it began."""

    worker_id: int
    ends: float
    look_at: float
    before: dict[int, Sample] = field(default_factory=dict)
    #: What was compared last, in words.
    numbers: str = "no request"

    def put_off(self, now: float) -> None:
        """Whatever was to be looked at by now has been."""
        if self.look_at <= now:
            self.look_at = now + LOOK

    def look(self, samples: Mapping[int, Sample], now: float) -> str:
        """Compare; why it is worse than the others, or nothing.

        Args:
            samples: what the canary and the workers of older code have counted, by worker.
            now: on the fleet's clock.
        """
        self.look_at = now + LOOK
        own = samples.get(self.worker_id)
        others = {worker: sample for worker, sample in samples.items() if worker != self.worker_id}
        if not self.before:
            self.before = others
        if own is None:
            return ""
        old = _sum([_since(sample, self.before[worker]) for worker, sample in others.items() if worker in self.before])
        self.numbers = f"{_failed(own)}, {_failed(old)} of the old workers'"
        share = old.errors / old.requests if old.requests else 0.0
        if own.errors >= FEWEST_ERRORS and own.errors > own.requests * (TIMES * share + SHARE):
            return f"5xx: {self.numbers}"
        if own.stalls > TIMES * old.stalls / max(len(others), 1) + STALLS:
            return f"its hub has stalled {own.stalls} times, those of {len(others)} old workers {old.stalls} times"
        return ""


def _failed(sample: Sample) -> str:
    return f"{sample.errors} of {sample.requests} answers failed"


def _since(sample: Sample, before: Sample) -> Sample:
    return Sample(*(max(0, now - then) for now, then in zip(sample, before, strict=True)))


def _sum(samples: list[Sample]) -> Sample:
    return Sample(*(sum(numbers) for numbers in zip(*samples, strict=True))) if samples else Sample(0, 0, 0)

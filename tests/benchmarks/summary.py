"""From the samples of all rounds to medians, ratios and verdicts. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one row. Times in seconds, memory in bytes."""

    row: str
    rate: float = 0.0  # requests a second
    p50: float = 0.0
    p99: float = 0.0
    cpu: float = 0.0  # of the server's processes, per request
    requests: int = 0
    errors: int = 0
    pss: int = 0  # of the whole tree, after the load
    workers_pss: tuple[int, ...] = ()
    db_connections: int | None = None  # the most that the database saw
    problem: str = ""  # why the sample is not valid
    record: Mapping[str, object] = field(default_factory=dict)  # for the JSON: command line, processes, log

    @property
    def valid(self) -> bool:
        """Whether the numbers may be used."""
        return not self.problem and not self.errors


Round = Mapping[str, Sample]  # row name -> its sample in one round


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio that matters, with the bound that the project has set itself; without a bound, for information."""

    text: str
    value: Callable[[Round], float]  # raises KeyError or ZeroDivisionError when the round lacks a row
    at_most: float | None = None
    at_least: float | None = None

    @property
    def bound(self) -> str:
        """The bound in words."""
        if self.at_most is not None:
            return f"≤ {self.at_most:.3g}"
        return "" if self.at_least is None else f"≥ {self.at_least:.3g}"

    def met(self, value: float) -> bool:
        """Whether a value keeps the bound."""
        above = self.at_least is None or value >= self.at_least
        return above and (self.at_most is None or value <= self.at_most)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a target: a value per round, and their median; None when no round could tell."""

    target: Target
    values: tuple[float, ...]

    @property
    def value(self) -> float | None:
        """The median of the rounds."""
        return median(self.values) if self.values else None

    @property
    def word(self) -> str:
        """`met`, `not met`, `no value`, or nothing for a target without a bound."""
        if self.value is None:
            return "no value"
        if not self.target.bound:
            return ""
        return "met" if self.target.met(self.value) else "not met"


def metric(sample: Sample, name: str) -> float:
    """A sample's number by name: rate, cpu, p50, p99, pss."""
    value: float = getattr(sample, name)
    return value


def ratio(name: str, subject: str, reference: str) -> Callable[[Round], float]:
    """The subject's metric divided by the reference's, in the same round."""
    return lambda samples: metric(samples[subject], name) / metric(samples[reference], name)


def fairness(subject: str, clients: int) -> Callable[[Round], float]:
    """The wait of the last in a hundred, divided by the fair one: that of a queue which all clients stand in."""
    return lambda samples: samples[subject].p99 / (clients / samples[subject].rate)


def best_ratio(name: str, subject: str, references: Iterable[str]) -> Callable[[Round], float]:
    """The subject's metric divided by the highest of the references that have a valid sample in that round."""
    names = tuple(references)

    def value(samples: Round) -> float:
        present = [metric(samples[row], name) for row in names if row in samples]
        return metric(samples[subject], name) / max(present, default=0.0)

    return value


def further_worker(one: str, several: str, *, alone: str) -> Callable[[Round], float]:
    """What each worker beyond the first adds to the tree's memory, divided by the memory of a process on its own."""

    def value(samples: Round) -> float:
        further = len(samples[several].workers_pss) - len(samples[one].workers_pss)
        return (samples[several].pss - samples[one].pss) / further / samples[alone].pss

    return value


def worker_share(several: str, *, alone: str) -> Callable[[Round], float]:
    """The mean memory of the workers, divided by the memory of a process on its own."""

    def value(samples: Round) -> float:
        workers = samples[several].workers_pss
        return sum(workers) / len(workers) / samples[alone].pss

    return value


def usable(samples: Iterable[Sample]) -> Round:
    """The valid samples of a round by row."""
    return {sample.row: sample for sample in samples if sample.valid}


def over_rounds(value: Callable[[Round], float], rounds: Iterable[Round]) -> tuple[float, ...]:
    """The value in each round that can tell it."""
    values = []
    for one in rounds:
        try:
            values.append(value(one))
        except (KeyError, ZeroDivisionError):  # a row without a valid sample in this round
            continue
    return tuple(values)


def judge(targets: Iterable[Target], rounds: Sequence[Round]) -> list[Verdict]:
    """Each target against all rounds."""
    return [Verdict(target, over_rounds(target.value, rounds)) for target in targets]


def medians(row: str, rounds: Iterable[Sequence[Sample]]) -> tuple[Sample | None, float]:
    """The row's valid samples as one sample of medians, and the spread of its rate: (highest - lowest) / median."""
    samples = [sample for one in rounds for sample in one if sample.row == row and sample.valid]
    if not samples:
        return None, 0.0
    rates = [sample.rate for sample in samples]
    middle = Sample(
        row,
        rate=median(rates),
        p50=median(sample.p50 for sample in samples),
        p99=median(sample.p99 for sample in samples),
        cpu=median(sample.cpu for sample in samples),
        requests=sum(sample.requests for sample in samples),
        pss=int(median(sample.pss for sample in samples)),
        workers_pss=tuple(sorted(samples[len(samples) // 2].workers_pss)),
        db_connections=max(
            (sample.db_connections for sample in samples if sample.db_connections is not None), default=None
        ),
    )
    return middle, (max(rates) - min(rates)) / middle.rate if middle.rate else 0.0


def order(rows: Sequence[str], turn: int) -> list[str]:
    """The rows of a round; each round begins with the next one."""
    start = turn % len(rows) if rows else 0
    return [*rows[start:], *rows[:start]]


def problems(rounds: Iterable[Iterable[Sample]]) -> list[str]:
    """One sentence for each sample that is not valid."""
    return [
        f"{sample.row}: {sample.problem or f'{sample.errors} errors in {sample.requests} requests'}"
        for one in rounds
        for sample in one
        if not sample.valid
    ]


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value that so many percent of the ordered values do not exceed (nearest rank); 0.0 without values."""
    if not ordered:
        return 0.0
    rank = math.ceil(len(ordered) * percent / 100)
    return ordered[max(rank, 1) - 1]

"""A whole run: every scenario, round by round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.benchmarks.databases import PreparationError, Surroundings, surroundings
from tests.benchmarks.measure import Bench, measure
from tests.benchmarks.scenarios import Scenario
from tests.benchmarks.summary import Round, Sample, Verdict, judge, order, problems, usable
from tests.db.servers import ServerUnavailable

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """A scenario's samples, round by round, in the order in which they were taken."""

    scenario: Scenario
    rounds: Sequence[Sequence[Sample]]
    problem: str = ""  # why there are none

    @property
    def usable(self) -> list[Round]:
        """The valid samples of each round."""
        return [usable(samples) for samples in self.rounds]

    @property
    def verdicts(self) -> list[Verdict]:
        """What became of the scenario's targets."""
        return judge(self.scenario.targets, self.usable)

    @property
    def problems(self) -> list[str]:
        """All that makes this result incomplete."""
        return ([self.problem] if self.problem else []) + problems(self.rounds)


def run(bench: Bench, scenario: Scenario, rounds: int, progress: Progress) -> Result:
    """Measure each row once in every round."""
    progress(f"{scenario.name}: {scenario.title}")
    try:
        with surroundings(scenario, bench.out) as around:
            return Result(scenario, [_round(bench, scenario, around, turn, progress) for turn in range(rounds)])
    except (PreparationError, ServerUnavailable) as error:
        return Result(scenario, [], str(error))


def _round(bench: Bench, scenario: Scenario, around: Surroundings, turn: int, progress: Progress) -> list[Sample]:
    rows = {row.name: row for row in scenario.rows}
    samples = []
    for name in order(list(rows), turn):
        sample = measure(bench, scenario, rows[name], around, turn)
        progress(f"  round {turn + 1}, {name}: {_short(sample)}")
        samples.append(sample)
    return samples


def _short(sample: Sample) -> str:
    if sample.problem:
        return f"FAILED: {sample.problem}"
    errors = f", {sample.errors} ERRORS" if sample.errors else ""
    return f"{sample.rate:.0f}/s, {sample.cpu * 1e6:.0f} µs CPU per request{errors}"

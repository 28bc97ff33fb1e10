"""The results as text and as JSON."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.measure import Bench
from tests.benchmarks.scenarios import Scenario
from tests.benchmarks.servers import SERVERS
from tests.benchmarks.session import Result
from tests.benchmarks.summary import Sample, Verdict, medians, over_rounds, ratio

SYMBOLS = {"rate": "req/s", "cpu": "CPU", "pss": "PSS", "p50": "p50", "p99": "p99"}
COLUMNS = ("req/s", "±", "p50 ms", "p99 ms", "CPU µs", "PSS MB", "a worker", "errors")
MB = 1024 * 1024
NOTHING = "-"


def text(results: Iterable[Result]) -> str:
    """All tables and targets."""
    return "\n".join(_scenario(result) for result in results)


def _scenario(result: Result) -> str:
    title = f"{result.scenario.name}: {result.scenario.title} ({result.scenario.connections} clients)"
    parts = ["", title, "=" * len(title), table(rows(result)), ""]
    parts += [_target(verdict) for verdict in result.verdicts]
    if result.problems:
        parts += ["", "NOT VALID, left out of every number above:", *(f"  ! {problem}" for problem in result.problems)]
    return "\n".join(parts)


def rows(result: Result) -> list[list[str]]:
    """Header and one line per row: medians over the rounds."""
    head = ["", *COLUMNS, *(["DB conns"] if result.scenario.database else [])]
    head += [f"{SYMBOLS[metric]} ÷ {reference}" for metric, reference in result.scenario.compare]
    return [head, *(_line(result, row.name) for row in result.scenario.rows)]


def _line(result: Result, row: str) -> list[str]:
    middle, spread = medians(row, result.rounds)
    errors = str(sum(sample.errors for samples in result.rounds for sample in samples if sample.row == row))
    cells = _cells(middle, spread) if middle else [NOTHING] * 7
    connections = [str(middle.db_connections if middle and middle.db_connections is not None else NOTHING)]
    ratios = [_ratio(result, metric, row, reference) for metric, reference in result.scenario.compare]
    return [row, *cells, errors, *(connections if result.scenario.database else []), *ratios]


def _cells(middle: Sample, spread: float) -> list[str]:
    workers = middle.workers_pss
    return [
        f"{middle.rate:.0f}",
        f"{spread / 2:.0%}",
        f"{middle.p50 * 1e3:.2f}",
        f"{middle.p99 * 1e3:.2f}",
        f"{middle.cpu * 1e6:.1f}",
        f"{middle.pss / MB:.1f}",
        f"{sum(workers) / len(workers) / MB:.1f}" if workers else NOTHING,
    ]


def _ratio(result: Result, metric: str, row: str, reference: str) -> str:
    values = over_rounds(ratio(metric, row, reference), result.usable)
    return f"{median(values):.2f}" if values else NOTHING


def _target(verdict: Verdict) -> str:
    value = NOTHING if verdict.value is None else f"{verdict.value:.3f}"
    spread = f" ({min(verdict.values):.3f} to {max(verdict.values):.3f})" if len(verdict.values) > 1 else ""
    goal = f", target {verdict.target.bound}: {verdict.word.upper()}" if verdict.target.bound else ""
    return f"  {verdict.target.text} = {value}{spread}{goal}"


def table(lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def as_json(results: Iterable[Result], bench: Bench, rounds: int) -> dict[str, Any]:
    """Everything: machine, versions, command lines, each sample, ratios and verdicts."""
    return {
        "when": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "run": {
            "rounds": rounds,
            "seconds": bench.duration,
            "warm_up": bench.warm_up,
            "cores": dataclasses.asdict(bench.cores),
        },
        "versions": {name: f"{server.distribution} {server.version}" for name, server in SERVERS.items()},
        "scenarios": [_result(result) for result in results],
    }


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")), "unknown")
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg(),
    }


def _result(result: Result) -> dict[str, Any]:
    return {
        **_description(result.scenario),
        "rounds": [[dataclasses.asdict(sample) for sample in samples] for samples in result.rounds],
        "targets": [
            {
                "text": verdict.target.text,
                "bound": verdict.target.bound,
                "value": verdict.value,
                "rounds": verdict.values,
                "verdict": verdict.word,
            }
            for verdict in result.verdicts
        ],
        "problems": result.problems,
    }


def _description(scenario: Scenario) -> dict[str, Any]:
    names = ("name", "title", "app", "path", "connections", "database")
    return {name: getattr(scenario, name) for name in names}

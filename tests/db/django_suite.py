"""Django's own test suite on our engines, under gevent, beside the stock engine: `make test-django`.

The suite comes with Django's source distribution, in the version that is installed. Every label runs twice: on the stock engine,
unpatched, and on ours in a gevent-patched interpreter. What fails only on ours must be in `django_expected.toml`, with a reason.

    python -m tests.db.django_suite --database postgresql --mode transaction backends transactions
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import django

from tests.db.django_runs import MODES, Outcome, stage

LABELS = [
    "backends",
    "transactions",
    "transaction_hooks",
    "select_for_update",
    "queries",
    "raw_query",
    "delete",
    "get_or_create",
    "bulk_create",
    "expressions",
    "aggregation",
    "postgres_tests",
    "migrations",
    "test_utils",
    "servers",
    "async",
]
EXPECTED = Path(__file__).with_name("django_expected.toml")
#: The last recorded run, from which the documentation has its figures.
RECORD = Path(__file__).with_name("django_record.json")


@dataclass(frozen=True)
class Run:
    """One label on one database, beside the stock engine. `differ`: the tests that fail only on ours."""

    database: str
    mode: str
    label: str
    ran: int
    skipped: int
    stock_failed: int
    differ: list[str]
    django: str = field(default_factory=django.get_version)

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.database} {self.mode} {self.label}"

    @property
    def key(self) -> tuple[int, int, int]:
        """Where it stands in the record."""
        databases = list(MODES)
        return databases.index(self.database), MODES[self.database].index(self.mode), LABELS.index(self.label)


@dataclass
class Report:
    """What is to be told at the end."""

    unexpected: list[str] = field(default_factory=list)
    explained: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    @property
    def ran(self) -> int:
        """How many tests."""
        return sum(run.ran for run in self.runs)


@functools.cache
def expected() -> list[dict[str, Any]]:
    """The rows of the list: name (a pattern), databases, modes (all if missing), reason."""
    rows: list[dict[str, Any]] = tomllib.loads(EXPECTED.read_text())["test"]
    return rows


def explanation(test: str, database: str, mode: str) -> str | None:
    """Why this test may fail on our engine, if it may."""
    for row in expected():
        if (
            fnmatchcase(test, row["name"])
            and database in row["databases"]
            and mode in row.get("modes", MODES[database])
        ):
            return " ".join(row["reason"].split())
    return None


def recorded() -> list[Run]:
    """The last recorded runs, in order."""
    return [Run(**row) for row in json.loads(RECORD.read_text())] if RECORD.exists() else []


def record(run: Run) -> None:
    """Put a run in the place of the one that was recorded before."""
    runs = {known.key: known for known in recorded()} | {run.key: run}
    rows = ",\n".join(json.dumps(vars(runs[key])) for key in sorted(runs))
    RECORD.write_text(f"[\n{rows}\n]\n")


def compare(database: str, mode: str, labels: Sequence[str], report: Report, *, keep: bool = False) -> None:
    """Run each label on both engines and note the differences; `keep` them in the record too."""
    with stage(database, mode) as theatre:
        for label in labels:
            stock, ours = theatre.stock(label), theatre.ours(label)
            differ = sorted(ours.failed - stock.failed)
            run = Run(database, mode, label, ours.ran, ours.skipped, len(stock.failed), differ)
            note(run, stock, ours, report)
            if keep:
                record(run)


def note(run: Run, stock: Outcome, ours: Outcome, report: Report) -> None:
    """Compare two outcomes."""
    report.runs.append(run)
    print(
        f"{run.name}: {ours.ran} tests ({ours.skipped} skipped) in {ours.seconds:.0f} s (stock {stock.seconds:.0f} s);"
        f" fail: stock {len(stock.failed)}, ours {len(ours.failed)}; differ: {len(run.differ)}",
        flush=True,
    )
    for what, here, there in (("ran", ours.ran, stock.ran), ("skipped", ours.skipped, stock.skipped)):
        if here != there:
            report.unexpected.append(f"{run.name}: {what} {here} tests, stock {there}")
    for test in run.differ:
        reason = explanation(test, run.database, run.mode)
        (report.explained if reason else report.unexpected).append(f"{run.name}: {test}: {reason or 'NEW'}")


def main(arguments: Sequence[str]) -> int:
    """0 when nothing fails that need not."""
    parser = argparse.ArgumentParser(prog="python -m tests.db.django_suite", description=__doc__.partition("\n")[0])
    parser.add_argument("labels", nargs="*", default=LABELS)
    parser.add_argument("--database", choices=MODES, action="append", help="several times for several; default: all")
    parser.add_argument(
        "--mode", action="append", help="transaction, request (leases); memory, file (SQLite); default: all"
    )
    parser.add_argument(
        "--record", action="store_true", help=f"keep the figures in {RECORD.name}, for the documentation"
    )
    options = parser.parse_args(arguments)
    report = Report()
    for database in options.database or MODES:
        for mode in MODES[database]:
            if mode in (options.mode or MODES[database]):
                compare(database, mode, options.labels or LABELS, report, keep=options.record)
    print(*report.explained, *report.unexpected, sep="\n")
    print(f"{report.ran} tests, {len(report.explained)} differ with a reason, {len(report.unexpected)} without")
    return 1 if report.unexpected else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

# ruff: noqa: INP001 - Sphinx finds extensions by folder
"""Sphinx directives that write what Django's own tests say of the engines, from the record of the last run.

``djworker-django-figures`` is the table of what was run, ``djworker-django-differences`` the list of the tests that differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from djworker_generated import Generated

from tests.db import django_suite as suite
from tests.db.django_runs import MODES

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_NAMES = {
    "postgresql": "PostgreSQL",
    "mysql": "MariaDB",
    "sqlite3": "SQLite",
    "postgresql-psycopg2": "psycopg2",
    "mysql-pymysql": "PyMySQL",
}


class _Generated(Generated):
    sources = (suite.EXPECTED, suite.RECORD)


class Figures(_Generated):
    """Label by engine, of those that are named: how many tests ran, how many of them differ."""

    required_arguments = 1
    final_argument_whitespace = True

    def lines(self) -> Iterator[str]:
        """Return a table."""
        runs = {(run.database, run.mode, run.label): run for run in suite.recorded()}
        columns = [(database, mode) for database in self.arguments[0].split() for mode in MODES[database]]
        yield from (".. list-table::", "   :header-rows: 1", "   :stub-columns: 1", "")
        yield from _row(["label", *(f"{_NAMES[database]}, {mode}" for database, mode in columns)])
        for label in suite.LABELS:
            yield from _row([label, *(_cell(runs.get((*column, label))) for column in columns)])
        everything = [[run for key, run in runs.items() if key[:2] == column] for column in columns]
        yield from _row(["all", *map(_cell_of, everything)])
        yield ""


def _row(cells: list[str]) -> Iterator[str]:
    for number, cell in enumerate(cells):
        yield f"   {'* -' if number == 0 else '  -'} {cell}"


def _cell(run: suite.Run | None) -> str:
    return _cell_of([run] if run else [])


def _cell_of(runs: list[suite.Run]) -> str:
    if not runs:
        return "not run"
    ran, skipped, differ = (
        sum(numbers) for numbers in zip(*((run.ran, run.skipped, len(run.differ)) for run in runs), strict=True)
    )
    return f"{ran - skipped}{f', {differ} differ' if differ else ''}"


class Differences(_Generated):
    """What may fail, and why."""

    def lines(self) -> Iterator[str]:
        """Return a definition list."""
        for row in suite.expected():
            where = ", ".join(_NAMES[database] for database in row["databases"])
            leases = f", with the {' and the '.join(row['modes'])} lease only" if "modes" in row else ""
            since = f", Django {row['since']} and later" if "since" in row else ""
            yield f"``{row['name']}`` ({where}{leases}{since})"
            yield from (f"   {line}" for line in row["reason"].replace("`", "``").strip().splitlines())
            yield ""


class Versions(_Generated):
    """Which Django the figures are of."""

    def lines(self) -> Iterator[str]:
        """Return a sentence."""
        runs = suite.recorded()
        versions = sorted({run.django for run in runs})
        yield (
            f"{sum(run.ran - run.skipped for run in runs)} tests of Django {' and '.join(versions)} were run in all; the stock"
            f" engines failed in {sum(run.stock_failed for run in runs)}, ours in {sum(len(run.differ) for run in runs)} more."
        )


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("djworker-django-figures", Figures)
    app.add_directive("djworker-django-differences", Differences)
    app.add_directive("djworker-django-versions", Versions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""The results, kept as JSON, and the page of the docs that is written from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.apps.application import Application
from tests.apps.comparison import EVERYWHERE
from tests.apps.crawler import CLIENTS
from tests.apps.servers import BOUND, MAX_SIZE, WORKERS
from tests.apps.venv import ROOT

RESULTS: Final = Path(__file__).with_name("results.json")
PAGE: Final = ROOT / "docs" / "reference" / "applications.md"


@dataclass(frozen=True, slots=True)
class Result:
    """Of one application on one database. pages: found; visits: answers compared; most: connections, at most at once."""

    application: str
    database: str
    day: str
    versions: Mapping[str, str]
    pages: int
    visits: int
    equal: int
    unstable: int
    unlike: int
    most_before: int
    most: int
    reload: str


def keep(result: Result) -> None:
    """Put it in the place of the one before, and write the page."""
    results = {(known.application, known.database): known for known in read()}
    results[result.application, result.database] = result
    RESULTS.write_text(json.dumps([asdict(results[key]) for key in sorted(results)], indent=1) + "\n")


def read() -> list[Result]:
    """Return the last result of each application on each database."""
    return [Result(**fields) for fields in json.loads(RESULTS.read_text())] if RESULTS.exists() else []


def write(applications: Sequence[Application]) -> None:
    """Write the page."""
    PAGE.write_text("\n".join(page(applications, read())) + "\n")


def page(applications: Sequence[Application], results: Sequence[Result]) -> Iterator[str]:
    """Return the page's lines."""
    yield "# Applications"
    yield ""
    yield _INTRODUCTION
    yield "| application | database | pages | answers | equal | unstable | unlike | connections | reload |"
    yield "|---|---|--:|--:|--:|--:|--:|---|---|"
    yield from (_row(result) for result in results)
    yield ""
    yield _COLUMNS
    yield ""
    yield "## With what"
    yield ""
    for application in applications:
        yield from _about(application, [result for result in results if result.application == application.name])
    yield "## What is not compared"
    yield ""
    yield f"Of every body: {', '.join(EVERYWHERE.values())}."
    for application in applications:
        if application.differs:
            yield f"Of {application.name}, besides: {', '.join(application.differs.values())}."
    yield "Of the head, the status, `Content-Type` and `Location` are compared."


_INTRODUCTION: Final = f"""\
`make test-apps` installs applications from PyPI, serves each with gunicorn's sync worker and with djworker, and compares the
answers. {CLIENTS} clients visit the same pages in the same order on both, half of them logged in. djworker runs {WORKERS} workers
with `max_size` {MAX_SIZE}, and is reloaded (HUP) after a quarter of the visits. The run writes this page; `make test` does not
include it.
"""
_COLUMNS: Final = f"""\
*Pages* were found by following links, anonymous and logged in. *Equal* answers have the status, type and body of
gunicorn's. *Unstable* are bodies that gunicorn, too, does not give twice: a list of what was done last, for example; their
statuses are equal. *Unlike* is everything else, a lost answer included. *Connections* are the most that the database server
had at once, counted 20 times a second: before the reload, when workers may have {WORKERS * MAX_SIZE}, and in
all, when they may have {BOUND}, since a reload has one worker more. A generation that is being loaded asks the database over
one connection more."""


def _row(result: Result) -> str:
    cells = (
        result.application,
        result.database,
        result.pages,
        result.visits,
        result.equal,
        result.unstable,
        result.unlike,
        f"{result.most_before}, {result.most}",
        result.reload,
    )
    return f"| {' | '.join(map(str, cells))} |"


def _about(application: Application, results: Sequence[Result]) -> Iterator[str]:
    yield f"**{application.name}**: {application.remark}."
    if application.without:
        yield application.without
    for result in results:
        named = ", ".join(f"{name} {version}" for name, version in result.versions.items())
        yield f"On {result.database}, {result.day}: {named}."
    if not results:
        yield "Not run yet."
    yield ""

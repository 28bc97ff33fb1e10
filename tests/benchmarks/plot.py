"""The results as one SVG file: a panel per scenario, a bar per row. Written by hand, so that nothing has to be installed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from tests.benchmarks.session import Result
from tests.benchmarks.summary import Sample, medians

WIDTH = 980
LABELS = 290  # room for the names of rows
BAR = 16
STEP = 22
HEAD = 58
PANEL = (WIDTH - LABELS) // 2
NUMBERS = 70  # room for the number behind a bar
MB = 1024 * 1024
OURS, THEIRS = "#0b6e4f", "#8a9ba8"


@dataclass(frozen=True, slots=True)
class Bars:
    """One column of bars. `values` are in the rows' order; None where a row has no valid sample."""

    title: str
    values: Sequence[float | None]


def svg(results: Iterable[Result]) -> str:
    """The whole picture."""
    parts: list[str] = []
    top = 0
    for result in results:
        parts.append(f'<g transform="translate(0,{top})">{_panel(result)}</g>')
        top += HEAD + STEP * len(result.scenario.rows) + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {max(top, 1)}" width="{WIDTH}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def _panel(result: Result) -> str:
    rows = [row.name for row in result.scenario.rows]
    middles = [medians(name, result.rounds)[0] for name in rows]
    labels = [_text(LABELS - 8, _line(index) + BAR - 4, name, anchor="end") for index, name in enumerate(rows)]
    title = _text(10, 18, f"{result.scenario.title} ({result.scenario.connections} clients)", weight="bold")
    columns = [_column(LABELS + PANEL * index, bars, rows) for index, bars in enumerate(_bars(result, middles))]
    return "".join([title, *labels, *columns])


def _bars(result: Result, middles: Sequence[Sample | None]) -> tuple[Bars, Bars]:
    if result.scenario.name == "memory":
        return (
            Bars("PSS of all processes, MB", [None if one is None else one.pss / MB for one in middles]),
            Bars("mean PSS of a worker, MB", [_mean(one) for one in middles]),
        )
    return (
        Bars("requests per second", [None if one is None else one.rate for one in middles]),
        Bars("CPU per request, µs", [None if one is None else one.cpu * 1e6 for one in middles]),
    )


def _mean(sample: Sample | None) -> float | None:
    return sum(sample.workers_pss) / len(sample.workers_pss) / MB if sample and sample.workers_pss else None


def _column(left: int, bars: Bars, rows: Sequence[str]) -> str:
    longest = max((value for value in bars.values if value), default=1.0)
    parts = [_text(left, 42, bars.title)]
    for index, (value, row) in enumerate(zip(bars.values, rows, strict=True)):
        width = (PANEL - NUMBERS) * (value or 0.0) / longest
        colour = OURS if row.startswith("djworker") else THEIRS
        parts.append(f'<rect x="{left}" y="{_line(index)}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>')
        parts.append(_text(left + width + 5, _line(index) + BAR - 4, f"{value:.0f}" if value else "no value"))
    return "".join(parts)


def _line(index: int) -> int:
    return HEAD - 6 + STEP * index


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'

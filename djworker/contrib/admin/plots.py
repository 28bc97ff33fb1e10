"""Numbers over the last hour become the points of a drawing: the geometry is made here, the SVG by a template."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from math import floor, log10
from typing import Any, Final, NamedTuple

from django.utils import timezone

from djworker.control.top.figures import memory, rate, span
from djworker.units import MEBIBYTE

__all__ = ["Curve", "Plot", "plots"]

#: The drawing, in units of its own; a phone shows one unit as one pixel.
WIDTH, HEIGHT = 340, 132
LEFT, RIGHT, TOP, BOTTOM = 42, 6, 10, 20
#: Seconds that are shown at least, and at most: a server that has just begun has little to show.
SHORTEST, LONGEST = 600.0, 3600.0
#: Seconds between two marks of the time: the smallest step of these with which there are not too many.
_STEPS: Final = (120.0, 300.0, 600.0, 900.0)
#: Seconds between two samples that are no line any more: the server was not there.
GAP: Final = 45.0
MOST_MARKS: Final = 6
#: Units that the number of a generation takes, before its mark.
LABEL: Final = 34

#: One value for each moment, or nothing.
Values = Sequence[float | None]


class Curve(NamedTuple):
    """One line. number: which colour. path, area: of an SVG ``path``; last: its latest value in words."""

    name: str
    number: int
    path: str
    area: str
    last: str


class Mark(NamedTuple):
    """A place on an axis, with its text."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Plot:
    """[worker] One drawing. rows, columns: the marks of the axes; changes: where another generation came into force."""

    title: str
    curves: Sequence[Curve]
    rows: Sequence[Mark]
    columns: Sequence[Mark]
    changes: Sequence[Mark]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM

    @property
    def label(self) -> str:
        """What is shown, in words: for readers who do not see the plot."""
        return f"{self.title}, lately: " + ", ".join(f"{curve.name} {curve.last}" for curve in self.curves)


def plots(samples: Mapping[str, Sequence[Any]]) -> list[Plot]:
    """Return the drawings of what ``history`` tells."""
    at = samples["at"]
    if not at:
        return []
    axis = _Axis(at[0], at[-1])
    columns, changes = axis.marks(), list(_changes(axis, at, samples["generation"]))
    return [_plot(spec, samples, axis, columns, changes) for spec in _SPECS]


class _Spec(NamedTuple):
    title: str
    curves: Mapping[str, str]
    says: Callable[[float], str]
    #: What the axis shows at least, so that noise does not fill it.
    least: float


_SPECS: Final = (
    _Spec("Requests/s", {"answered": "requests", "5xx": "errors"}, rate, 1.0),
    _Spec("Latency", {"p50": "p50", "p99": "p99"}, span, 0.01),
    _Spec("Memory of the workers", {"PSS": "memory"}, memory, 64 * MEBIBYTE),
    _Spec("Processors", {"busy": "cpu"}, lambda value: f"{value:.2g}", 1.0),
    _Spec("Requests at once", {"running": "running", "queued": "queued"}, lambda value: f"{value:.0f}", 4.0),
    _Spec(
        "DB connections",
        {"lent": "leased", "open": "connections", "waiting": "waiting"},
        lambda value: f"{value:.0f}",
        4.0,
    ),
)


class _Axis:
    """Time, from left to right."""

    def __init__(self, first: float, last: float) -> None:
        self.last = last
        self.shown = min(max(last - first, SHORTEST), LONGEST)

    def place(self, at: float) -> float:
        """Return where a moment is."""
        part = 1.0 - (self.last - at) / self.shown
        return round(LEFT + part * (WIDTH - LEFT - RIGHT), 1)

    def marks(self) -> list[Mark]:
        """Return times of day that are round numbers of minutes."""
        step = next(step for step in _STEPS if self.shown / step <= MOST_MARKS)
        newest = floor(self.last / step) * step
        times = [newest - number * step for number in range(MOST_MARKS)]
        return [Mark(self.place(at), _clock(at)) for at in times if LEFT <= self.place(at) <= WIDTH - 3 * RIGHT]

    def has(self, at: float) -> bool:
        """Whether a moment is shown."""
        return at >= self.last - self.shown


def _clock(at: float) -> str:
    moment = datetime.fromtimestamp(at, UTC)
    return f"{timezone.localtime(moment):%H:%M}"


def _changes(axis: _Axis, at: Sequence[float], generations: Sequence[float]) -> Iterator[Mark]:
    """Where another generation came into force; its number stands where there is room for it."""
    room_from: float = LEFT + LABEL
    for (_, before), (moment, generation) in pairwise(zip(at, generations, strict=True)):
        if generation != before and before and axis.has(moment):
            place = axis.place(moment)
            yield Mark(place, f"gen {generation:.0f}" if place >= room_from else "")
            room_from = place + LABEL


def _plot(
    spec: _Spec, samples: Mapping[str, Sequence[Any]], axis: _Axis, columns: Sequence[Mark], changes: Sequence[Mark]
) -> Plot:
    series = {name: samples[key] for name, key in spec.curves.items()}
    most = max((value for values in series.values() for value in values if value is not None), default=0.0)
    top = _ceiling(max(most, spec.least), 1024 if spec.says is memory else 10)
    curves = [
        _curve(name, number, list(_places(axis, samples["at"], values, top)), spec.says, values)
        for number, (name, values) in enumerate(series.items(), 1)
    ]
    rows = [Mark(_height(part * top, top), spec.says(part * top)) for part in (0.0, 0.5, 1.0)]
    return Plot(spec.title, curves, rows, columns, changes)


def _ceiling(value: float, base: int) -> float:
    """Return a round number that is not less."""
    unit = MEBIBYTE if base == 1024 else 1.0
    scaled = value / unit
    power = 10.0 ** floor(log10(scaled))
    return unit * next(step * power for step in (1.0, 2.0, 4.0, 6.0, 8.0, 10.0) if step * power >= scaled * 0.999)


def _height(value: float, top: float) -> float:
    return round(HEIGHT - BOTTOM - min(value / top, 1.0) * (HEIGHT - TOP - BOTTOM), 1)


def _places(axis: _Axis, at: Sequence[float], values: Values, top: float) -> Iterator[list[tuple[float, float]]]:
    """Return the pieces of a line: it ends where there is no value, and where the server was not there."""
    piece: list[tuple[float, float]] = []
    before = 0.0
    for moment, value in zip(at, values, strict=True):
        if piece and (value is None or moment - before > GAP):
            yield piece
            piece = []
        if value is not None and axis.has(moment):
            piece.append((axis.place(moment), _height(value, top)))
        before = moment
    if piece:
        yield piece


def _curve(
    name: str,
    number: int,
    pieces: Sequence[Sequence[tuple[float, float]]],
    says: Callable[[float], str],
    values: Values,
) -> Curve:
    path = " ".join(_line(piece) for piece in pieces)
    area = ""
    if number == 1:
        floor_at = HEIGHT - BOTTOM
        area = " ".join(f"{_line(piece)} L{piece[-1][0]} {floor_at} L{piece[0][0]} {floor_at} Z" for piece in pieces)
    last = values[-1]
    return Curve(name, number, path, area, "-" if last is None else says(last))


def _line(piece: Sequence[tuple[float, float]]) -> str:
    """A single moment is a short line, so that it can be seen."""
    (x, y), *rest = piece
    return f"M{x} {y} " + (" ".join(f"L{a} {b}" for a, b in rest) or "h1.5")

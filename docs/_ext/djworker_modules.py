# ruff: noqa: INP001 - Sphinx finds extensions by folder
"""Sphinx directive that draws a map of the package's rooms from its imports, so that it cannot be out of date.

``djworker-map`` draws the rooms of ``djworker``, ``djworker-map:: db`` those of ``djworker.db``: a box for each package, a
lighter one for each module beside them, and every box above what it imports. Then follows what each says of itself. An arrow
is left out where another way leads to the same box. The picture is SVG, written here: nothing has to be installed to draw it.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import grimp
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import djworker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sphinx.application import Sphinx

ROOT = "djworker"
# Pixels.
ROW, HEIGHT, GAP, LETTER, PADDING, WIDTH = 92, 40, 22, 8.6, 26, 860

Edges = dict[str, set[str]]


class Box(NamedTuple):
    """Where a room is drawn."""

    x: float
    y: float
    width: float


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph(ROOT, exclude_type_checking_imports=True, cache_dir=None)


def rooms(parent: str) -> Edges:
    """For each room of the package, the rooms that it imports."""
    graph = _graph()
    found: Edges = {}
    for module in graph.modules:
        if (room := room_of(module, parent)) is None:
            continue
        imported = (room_of(other, parent) for other in graph.find_modules_directly_imported_by(module))
        found.setdefault(room, set()).update(other for other in imported if other not in {None, room})
    return found


def room_of(module: str, parent: str) -> str | None:
    """The package or module right below *parent* in which a module lies; None for what lies elsewhere."""
    return module.removeprefix(f"{parent}.").partition(".")[0] if module.startswith(f"{parent}.") else None


def folder(package: str) -> Path:
    """Where a package lies."""
    return Path(djworker.__file__).parent.joinpath(*package.split(".")[1:])


def levels(edges: Edges) -> dict[str, int]:
    """The row of each room: one above the highest that it imports. Imports that go in a circle are followed once."""
    found: dict[str, int] = {}

    def level(room: str, above: frozenset[str]) -> int:
        if room not in found:
            below = [level(other, above | {room}) for other in sorted(edges[room]) if other not in above]
            found[room] = 1 + max(below, default=-1)
        return found[room]

    for room in sorted(edges):
        level(room, frozenset())
    return found


def shown(edges: Edges) -> Edges:
    """The arrows to draw: those to rooms which no other arrow leads to."""

    def reach(room: str, seen: set[str]) -> set[str]:
        for other in edges[room] - seen:
            seen.add(other)
            reach(other, seen)
        return seen

    return {
        room: {other for other in below if not any(other in reach(third, set()) for third in below - {other, room})}
        for room, below in edges.items()
    }


def svg(parent: str, edges: Edges) -> str:
    """The picture."""
    boxes = _boxes(levels(edges))
    height = max(box.y for box in boxes.values()) + HEIGHT + 16
    arrows = [
        _arrow(boxes[room], boxes[other]) for room, below in sorted(shown(edges).items()) for other in sorted(below)
    ]
    return "".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" width="100%"',
            f' font-family="system-ui, sans-serif" font-size="15"><title>{parent}: who imports whom</title>',
            '<defs><marker id="map-arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7"',
            ' orient="auto"><path d="M0 0L10 5L0 10z" fill="#667"/></marker></defs>',
            f'<g fill="none" stroke="#778" stroke-width="1.3">{"".join(arrows)}</g>',
            *(_drawn(name, box, is_room=(folder(parent) / name).is_dir()) for name, box in boxes.items()),
            "</svg>",
        )
    )


def _boxes(rows: Mapping[str, int]) -> dict[str, Box]:
    top, found = max(rows.values()), {}
    for row in range(top + 1):
        names = sorted(name for name, at in rows.items() if at == row)
        widths = [len(name) * LETTER + PADDING for name in names]
        room = max(GAP, (WIDTH - sum(widths)) / (len(names) + 1))
        x = room
        for name, width in zip(names, widths, strict=True):
            found[name] = Box(x, 8 + (top - row) * ROW, width)
            x += width + room
    return found


def _arrow(above: Box, below: Box) -> str:
    x1, y1 = above.x + above.width / 2, above.y + HEIGHT
    x2, y2 = below.x + below.width / 2, below.y
    if below.y <= above.y:  # a circle: beside the boxes
        y1, y2 = above.y + HEIGHT / 2, below.y + HEIGHT / 2
    bend = (y2 - y1) * 0.45
    line = f"M{x1:.0f} {y1:.0f}C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} {x2:.0f} {y2:.0f}"
    return f'<path d="{line}" marker-end="url(#map-arrow)"/>'


def _drawn(name: str, box: Box, *, is_room: bool) -> str:
    fill = "#dfe8fb" if is_room else "#f7f7f2"
    return (
        f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{HEIGHT}" rx="7" fill="{fill}" stroke="#556"/>'
        f'<text x="{box.x + box.width / 2:.0f}" y="{box.y + 25:.0f}" text-anchor="middle" fill="#223">{escape(name)}</text>'
    )


def told(parent: str, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """What each room, and then each module beside them, says of itself."""
    for name in sorted(names, key=lambda name: (not (folder(parent) / name).is_dir(), name)):
        place = folder(parent) / name
        yield f"{parent}.{name}", _docstring(place / "__init__.py" if place.is_dir() else place.with_suffix(".py"))


def _docstring(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.partition("\n\n")[0].split())


class Map(SphinxDirective):
    """The picture, and a list of the rooms."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Draw."""
        parent = f"{ROOT}.{self.arguments[0]}" if self.arguments else ROOT
        for path in folder(parent).rglob("*.py"):
            self.env.note_dependency(str(path))
        edges = rooms(parent)
        picture = nodes.raw("", svg(parent, edges), format="html")
        lines = [
            line for name, text in told(parent, edges) for line in (f"``{name}``", f"   {re.sub('`+', '``', text)}", "")
        ]
        return [picture, *self.parse_text_to_nodes("\n".join(lines))]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("djworker-map", Map)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""A picture of a terminal's screen, as SVG that needs no font of its own."""

from __future__ import annotations

from itertools import groupby
from typing import Any
from xml.sax.saxutils import escape

#: Width and height of a character, and the edge around all.
WIDTH, HEIGHT, EDGE = 8.4, 18, 14
PAPER, INK = "#16181d", "#d7dae0"
#: Blanks beside each other are one in SVG; these are not.
BLANK = "\N{NO-BREAK SPACE}"
_COLOURS = {
    "black": "#16181d",
    "red": "#ff7b72",
    "green": "#6fd08c",
    "brown": "#f0b357",
    "brightblack": "#8b919d",
    "white": "#d7dae0",
}


def svg(screen: Any, title: str) -> str:
    """Draw what a ``pyte.Screen`` shows."""
    width, height = screen.columns * WIDTH + 2 * EDGE, screen.lines * HEIGHT + 2 * EDGE
    rows = "\n".join(_row(screen, number) for number in range(screen.lines))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">\n'
        f'<rect width="{width:g}" height="{height:g}" rx="8" fill="{PAPER}"/>\n'
        f'<g font-family="DejaVu Sans Mono, Menlo, monospace" font-size="14">\n{rows}\n</g>\n</svg>\n'
    )


def _row(screen: Any, number: int) -> str:
    cells = [screen.buffer[number][column] for column in range(screen.columns)]
    pieces, column = [], 0
    for look, group in groupby(cells, key=lambda cell: (cell.fg, cell.bg, cell.bold, cell.reverse)):
        text = "".join(cell.data for cell in group)
        pieces.append(_piece(text, column, number, *look))
        column += len(text)
    return "".join(pieces)


def _piece(text: str, column: int, row: int, ink: str, paper: str, bold: bool, reverse: bool) -> str:  # noqa: FBT001
    x, y = EDGE + column * WIDTH, EDGE + row * HEIGHT
    foreground, background = _COLOURS.get(ink, INK), _COLOURS.get(paper, "")
    if reverse:
        foreground, background = PAPER, "#aab0bc"
    length = len(text) * WIDTH
    box = f'<rect x="{x:g}" y="{y:g}" width="{length:g}" height="{HEIGHT}" fill="{background}"/>' if background else ""
    if not text.strip():
        return box
    weight = ' font-weight="bold"' if bold else ""
    place = f'x="{x:g}" y="{y + 13.5:g}" textLength="{length:g}"'
    return f'{box}<text {place} fill="{foreground}"{weight}>{escape(text).replace(" ", BLANK)}</text>'

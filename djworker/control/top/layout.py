"""Tables become lines of a screen: what is sorted, what is scrolled to, and what fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from djworker.control.top.figures import TABLES, Cell, Column, Table

__all__ = ["HELP", "Choice", "Line", "lines"]

#: Pieces of text with their looks: those of ``Cell``, ``title``, ``sorted``, ``strong`` and ``chosen``.
Line = list[tuple[str, str]]
#: The most important first: a narrow screen shows the beginning.
HELP: Final = "q quit  1 workers  2 requests  3 pools  < > sort  r reverse  z zoom  space hold"
#: Rows that a table gets at least, where it has them.
FEWEST: Final = 3
#: The table that is shown first, and the column by which each is sorted at first.
_FIRST: Final = {"workers": 0, "requests": 0, "pools": 0}


@dataclass(slots=True)
class Choice:
    """What the reader of the screen has chosen."""

    table: str = TABLES[0]
    #: By table: the column, whether its order is turned round, and the first row.
    column: dict[str, int] = field(default_factory=lambda: dict(_FIRST))
    reverse: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(TABLES, False))
    first: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    zoomed: bool = False
    held: bool = False
    ended: bool = False

    def press(self, key: str, columns: Mapping[str, int]) -> None:
        """Do what a key asks for. columns: how many each table has."""
        if key in ("q", "Q", "end of input"):
            self.ended = True
        elif key in ("1", "2", "3"):
            self.table = TABLES[int(key) - 1]
        elif key == "\t":
            self.table = TABLES[(TABLES.index(self.table) + 1) % len(TABLES)]
        elif key in _STEPS:
            count = columns.get(self.table, 1)
            self.column[self.table] = (self.column[self.table] + _STEPS[key]) % count
            self.reverse[self.table] = False
        elif key in _SCROLLS:
            self.first[self.table] = max(0, self.first[self.table] + _SCROLLS[key])
        elif key == "r":
            self.reverse[self.table] = not self.reverse[self.table]
        elif key in ("z", "\n", "\r"):
            self.zoomed = not self.zoomed
        elif key == " ":
            self.held = not self.held


_STEPS: Final = {"<": -1, "left": -1, "S": -1, ">": 1, "right": 1, "s": 1}
_SCROLLS: Final = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -10, "page down": 10, "home": -(10**6)}


def lines(head: Sequence[Line], tables: Mapping[str, Table], choice: Choice, width: int, height: int) -> list[Line]:
    """Return exactly *height* lines, of which none is wider than *width*."""
    if not tables:
        return [_cut(line, width) for line in [*head, *[[] for _ in range(height)]][:height]]
    room = height - len(head) - 1
    shown = [choice.table] if choice.zoomed else list(TABLES)
    heights = _heights([_wanted(tables[name]) for name in shown], room, shown.index(choice.table))
    between: list[Line] = [[]] if room - sum(heights) >= len(shown) else []
    found = [*head]
    for name, rows in zip(shown, heights, strict=True):
        found += between
        found += _table(tables[name], choice, width, rows)
    found = found[: height - 1]
    found += [[] for _ in range(height - 1 - len(found))]
    held = [(" held ", "chosen"), ("  ", "")] if choice.held else []
    return [_cut(line, width) for line in (*found, [*held, (HELP, "dim")])]


def _wanted(table: Table) -> int:
    """Lines of a table: its title, a row or what stands for it, its notes."""
    return 1 + max(1, len(table.rows)) + len(table.notes)


def _heights(wanted: Sequence[int], room: int, chosen: int) -> list[int]:
    """Share the lines: each table gets a few, then the one that is chosen what it wants, then the others."""
    got = [min(want, FEWEST) for want in wanted]
    while sum(got) > room and max(got) > 0:
        longest = max(range(len(got)), key=lambda number: (got[number], number != chosen))
        got[longest] -= 1
    for number in sorted(range(len(wanted)), key=lambda number: number != chosen):
        got[number] += min(wanted[number] - got[number], room - sum(got))
    return got


def _table(table: Table, choice: Choice, width: int, height: int) -> Iterator[Line]:
    if height < 1:
        return
    column = choice.column[table.name] % len(table.columns)
    down = table.columns[column].largest_first is not choice.reverse[table.name]
    rows = sorted(table.rows, key=lambda row: _key(row[column]), reverse=down)
    notes = list(table.notes)[: max(0, height - 2)]
    space = max(0, height - 1 - len(notes))
    last = max(0, len(rows) - space)
    first = choice.first[table.name] = min(choice.first[table.name], last)
    widths = _widths(table, rows, width)
    chosen = table.name == choice.table
    yield _titles(table, widths, column, chosen=chosen, down=down)
    for row in rows[first : first + space]:
        yield _row(row, table.columns, widths)
    if not rows and space:
        yield [(f"  {table.empty}", "dim")]
    for note in notes:
        yield [(f"  {note}", "warn")]


def _key(cell: Cell) -> tuple[bool, float, str]:
    """Numbers before words, so that whatever stands in a column can be compared."""
    if isinstance(cell.key, str):
        return True, 0.0, cell.key
    return False, float(cell.key), ""


def _widths(table: Table, rows: Sequence[Sequence[Cell]], width: int) -> list[int]:
    """Of the columns; the one that fills gets the rest, and wide texts are cut before it has nothing."""
    widths = [
        max([len(column.title) + 1, *(len(row[number].text) for row in rows)])
        for number, column in enumerate(table.columns)
    ]
    filling = [number for number, column in enumerate(table.columns) if column.fill]
    for number, column in enumerate(table.columns):
        if not column.right and not column.fill:
            widths[number] = min(widths[number], max(len(column.title) + 1, width // 4))
    for number in filling:
        widths[number] = max(1, width - 1 - sum(widths) + widths[number] - len(widths))
    return widths


def _titles(table: Table, widths: Sequence[int], column: int, *, chosen: bool, down: bool) -> Line:
    line: Line = [("▌" if chosen else " ", "chosen" if chosen else "title")]
    for number, (one, width) in enumerate(zip(table.columns, widths, strict=True)):
        mark = ("▼" if down else "▲") if number == column else ""
        look = "sorted" if number == column and chosen else "title"
        line += [(_aligned(one.title + mark, one, width), look), (" ", "title")]
    return [*line, ("", "rest")]


def _row(row: Sequence[Cell], columns: Sequence[Column], widths: Sequence[int]) -> Line:
    line: Line = [(" ", "")]
    for cell, column, width in zip(row, columns, widths, strict=True):
        line += [(_aligned(cell.text, column, width), cell.look), (" ", "")]
    return line


def _aligned(text: str, column: Column, width: int) -> str:
    text = text if len(text) <= width else text[: width - 1] + "…"
    return text.rjust(width) if column.right else text.ljust(width)


def _cut(line: Line, width: int) -> Line:
    """Leave out what is beyond the edge; a title's line goes on to it."""
    found: Line = []
    left = width
    for text, look in line:
        piece = " " * left if look == "rest" else text[:left]
        left -= len(piece)
        found.append((piece, "title" if look == "rest" else look))
    return found

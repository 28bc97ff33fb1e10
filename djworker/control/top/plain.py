"""``top`` without rich, and where the output is no terminal: the tables, printed again and again; or JSON, for programs."""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING, Final

from djworker.control import text
from djworker.control.protocol import VERSION
from djworker.control.top.figures import View, headlines, tables

if TYPE_CHECKING:
    from djworker.control.top.feed import Feed

__all__ = ["render", "render_json", "run"]

_VERBS: Final = ("status", "requests", "pool")

#: Home, and what is below is empty (ECMA-48: CUP, ED): the terminal does not flicker, and nothing of before is left.
CLEAR: Final = "\x1b[H\x1b[2J"


def render(view: View) -> str:
    """Return all that is known, as text."""
    found = ["".join(piece for piece, _ in line) for line in headlines(view)]
    for table in tables(view).values():
        rows = [[cell.text for cell in row] for row in table.rows]
        titles = [column.title for column in table.columns]
        right = [column.right for column in table.columns]
        found += ["", text.columns(titles, rows, right) if rows else table.empty, *table.notes]
    return "\n".join(found)


def render_json(view: View) -> str:
    """Return the same for programs: one line, with the answers as the verbs print them."""
    answers = {verb: view.answers.get(verb, {}) for verb in _VERBS}
    return json.dumps({"version": VERSION, "verb": "top", "trouble": view.trouble, **answers})


def run(feed: Feed, changed: threading.Event, count: int, *, as_json: bool = False) -> None:
    """Print what *feed* learns, each time that the server has answered, or has stopped to.

    Args:
        feed: asks the server.
        changed: is set when there is something new.
        count: looks, then end; 0 for no end.
        as_json: print a line of JSON for each look.
    """
    clear = CLEAR if sys.stdout.isatty() else ""
    shown = View()
    looks = 0
    while not count or looks < count:
        changed.wait()
        changed.clear()
        view = feed.view()
        complete = view.trouble or view.answers.keys() >= set(_VERBS)
        if not complete or (view.looks, view.trouble) == (shown.looks, shown.trouble):
            continue
        shown, looks = view, looks + 1
        shown_text = render_json(view) if as_json else f"{clear}{render(view)}{'' if clear else chr(10)}"
        print(shown_text, flush=True)  # noqa: T201 - a command prints

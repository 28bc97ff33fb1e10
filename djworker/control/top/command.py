"""``djworkerctl top``: chooses between the whole screen and plain tables."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from djworker.control.top import plain
from djworker.control.top.feed import Feed

if TYPE_CHECKING:
    from djworker.control.finding import Instance

__all__ = ["run"]


def run(find: Callable[[], Instance], interval: float, count: int, *, as_json: bool = False) -> None:
    """Show the server until the reader has seen enough.

    Args:
        find: returns the server, anew when the last one is gone.
        interval: seconds between two looks.
        count: looks, then end; 0 for no end.
        as_json: print a line of JSON for each look.
    """
    if not as_json and _is_screen():
        _run_screen(find, interval, count)
        return
    changed = threading.Event()
    with contextlib.suppress(KeyboardInterrupt), Feed(find, interval, changed.set) as feed:
        plain.run(feed, changed, count, as_json=as_json)


def _is_screen() -> bool:
    """Whether a whole screen can be drawn, and keys be read."""
    terminal = sys.stdout.isatty() and sys.stdin.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return terminal and importlib.util.find_spec("rich") is not None


def _run_screen(find: Callable[[], Instance], interval: float, count: int) -> None:
    from djworker.control.top import screen  # noqa: PLC0415 - the extra djworker[top] brings what it needs

    news = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def changed() -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(news[1], b".")

    with Feed(find, interval, changed) as feed:
        screen.run(feed, news, count)

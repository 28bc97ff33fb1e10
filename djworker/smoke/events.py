"""The log of the server, as it comes."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from typing import IO, Any, Final

from djworker.log.source import is_project

__all__ = ["Event", "Events", "cause", "place"]

Event = dict[str, Any]
_TRACEBACK: Final = "Traceback (most recent call last):"
_FRAME: Final = re.compile(r'^ +File "(?P<file>.+)", line (?P<line>\d+)', re.MULTILINE)
_EXCEPTION: Final = re.compile(r"^[A-Za-z_][\w.]*(?::.*)?$", re.MULTILINE)


class Events:
    """[smoke] Lines of the server's standard error; those of the project, which are no events, are kept as text."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._all: list[Event] = []
        self._changed = threading.Condition()
        self.ended = False
        threading.Thread(target=self._read, args=(stream,), name="events", daemon=True).start()

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            event = _parse(line.decode(errors="replace").rstrip("\n"))
            with self._changed:
                self._all.append(event)
                self._changed.notify_all()
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def mark(self) -> int:
        """The present, for ``since``."""
        with self._changed:
            return len(self._all)

    def find(self, *names: str, since: int = 0) -> list[Event]:
        """All events of these names from then on."""
        with self._changed:
            return [event for event in self._all[since:] if event["event"] in names]

    def wait(self, holds: Callable[[], object], seconds: float) -> bool:
        """Wait until it holds, the log ends, or the time is over; whether it holds."""
        with self._changed:
            self._changed.wait_for(lambda: holds() or self.ended, seconds)
        return bool(holds())

    def text(self, since: int = 0) -> str:
        """What the project has written from then on, outside of events."""
        return "\n".join(event["text"] for event in self.find("", since=since))


def _parse(line: str) -> Event:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else {"event": "", "text": line}


def cause(text: str) -> str:
    """Return the exception of the first traceback in a text, and where in the project it was raised; or nothing."""
    _, found, rest = text.partition(_TRACEBACK)
    ends = _EXCEPTION.search(rest)
    return f"{ends[0]}{place(rest[: ends.start()])}" if found and ends else ""


def place(stack: str) -> str:
    """Return the innermost place of the project in a stack, in brackets; or nothing."""
    frames = list(_FRAME.finditer(stack))
    own = [frame for frame in frames if is_project(frame["file"])] or frames
    return f" ({own[-1]['file']}:{own[-1]['line']})" if own else ""

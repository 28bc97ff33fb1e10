"""What a server says on standard error, as a list that a test can wait on."""

from __future__ import annotations

import json
import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Event = dict[str, Any]
#: Seconds. Generous: it ends a test that waits in vain, on a machine that is busy with something else.
PATIENCE = 90.0
#: Seconds between two looks of ``eventually``: a tenth of what it has waited for, within these. Each look is work.
_OFTEN, _SHARE, _SELDOM = 0.02, 0.1, 0.05


class NeverSaidError(AssertionError):
    """The event did not come; the text has everything that did."""


class EventLog:
    """The lines of a pipe, read by a thread. A line that is no JSON object becomes an event ``raw`` with its text."""

    def __init__(self, fd: int, transcript: Path, note: Callable[[Event], None] = lambda _: None) -> None:
        """note: told of each event at once, in the thread that reads."""
        self._events: list[Event] = []
        self._note = note
        self._changed = threading.Condition()
        self._transcript = transcript
        self.ended = False
        self._quit, self._quitter = os.pipe()
        self._thread = threading.Thread(target=self._read, args=(fd,), name="events", daemon=True)
        self._thread.start()

    def _read(self, fd: int) -> None:
        rest = b""
        with self._transcript.open("ab", buffering=0) as transcript:
            while self._quit not in select.select([fd, self._quit], [], [])[0] and (data := os.read(fd, 65536)):
                transcript.write(data)
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._add(_parse(line.decode(errors="replace")))
        for end in (fd, self._quit):
            os.close(end)
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Read no more: whoever writes there now is told that nobody listens."""
        os.close(self._quitter)
        self._thread.join()

    def _add(self, event: Event) -> None:
        self._note(event)
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def mark(self) -> int:
        """The present, for ``since``."""
        with self._changed:
            return len(self._events)

    def find(self, name: str, since: int = 0, **fields: Any) -> list[Event]:
        """Every such event so far. A field may be given as a value, or as a function that judges it."""
        with self._changed:
            return self._find(name, since, fields)

    def all(self, since: int = 0) -> list[Event]:
        """Everything said so far."""
        with self._changed:
            return self._events[since:]

    def _find(self, name: str, since: int, fields: dict[str, Any]) -> list[Event]:
        return [event for event in self._events[since:] if event["event"] == name and _fits(event, fields)]

    def wait_for(self, name: str, *, count: int = 1, since: int = 0, timeout: float = PATIENCE, **fields: Any) -> Event:
        """Wait until *count* such events are there; the last of them. Ends at once when nobody is left to say it."""

        def said() -> bool:
            return len(self._find(name, since, fields)) >= count

        with self._changed:
            self._changed.wait_for(lambda: said() or self.ended, timeout)
            if not said():
                why = "everybody is gone" if self.ended else f"{timeout:g} s have passed"
                raise NeverSaidError(f"{count} × {name} {fields or ''}: {why}; it said\n{self._text(since)}")
            return self._find(name, since, fields)[count - 1]

    def wait_until(self, holds: Callable[[list[Event]], bool], timeout: float = PATIENCE, since: int = 0) -> None:
        """Wait until *holds* is true of all events since then."""
        with self._changed:
            if not self._changed.wait_for(lambda: holds(self._events[since:]) or self.ended, timeout) or not holds(
                self._events[since:]
            ):
                raise NeverSaidError(f"not so after {timeout:g} s; it said\n{self._text(since)}")

    def wait_for_end(self, timeout: float = PATIENCE) -> bool:
        """Wait until the last process that holds the pipe is gone."""
        with self._changed:
            return self._changed.wait_for(lambda: self.ended, timeout)

    def text(self, since: int = 0) -> str:
        """Everything, for a message."""
        with self._changed:
            return self._text(since)

    def _text(self, since: int) -> str:
        return "\n".join(_show(event) for event in self._events[since:][-150:])


def _parse(line: str) -> Event:
    try:
        event = json.loads(line)
    except ValueError:
        return {"event": "raw", "text": line}
    return event if isinstance(event, dict) and "event" in event else {"event": "raw", "text": line}


def _fits(event: Event, fields: dict[str, Any]) -> bool:
    return all(
        (wanted(event.get(name)) if callable(wanted) else event.get(name) == wanted) for name, wanted in fields.items()
    )


def _show(event: Event) -> str:
    if event["event"] == "raw":
        return f"  | {event['text']}"
    rest = {k: v for k, v in event.items() if k not in ("time", "level", "event", "message", "role")}
    return f"  {event.get('time', '')[17:23]} {event['event']}: {event.get('message')} {rest}"


def eventually(holds: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    """Ask again and again until the answer is true; for what no event tells. Returns the answer."""
    begin = time.monotonic()
    while not (answer := holds()):
        passed = time.monotonic() - begin
        assert passed < timeout, f"not within {timeout:g} s: {what}"
        time.sleep(min(max(_OFTEN, passed * _SHARE), _SELDOM))
    return answer

"""Clients that wait for the verdict on a reload, and what it is: told from what the fleet announces, as it is told to the log."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djworker.arbiter.control import Client, Tell

#: What a failed reload says of itself, beside its reason.
_FIELDS: Final = ("generation", "serving", "stage", "module", "error", "traceback")


@dataclass(slots=True)
class Wait:
    """[arbiter] One client's question.

    generation: the one that it is about; 0 while that has not begun. quiet: it is told the verdict alone.
    """

    client: Client
    deadline: float
    timeout: float
    generation: int = 0
    queued: bool = False
    quiet: bool = False


class Verdicts:
    """[arbiter] Follows reloads, and tells clients that wait."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._waits: list[Wait] = []
        #: How the last reload ended; nothing before the first.
        self.last: dict[str, Any] | None = None

    def wait(self, client: Client, now: float, timeout: float, *, quiet: bool = False) -> Wait:
        """Wait for the generation that begins next.

        Args:
            client: is told.
            now: seconds of the monotonic clock.
            timeout: seconds; then it is told that there is no verdict.
            quiet: it is told the verdict alone.
        """
        wait = Wait(client, now + timeout, timeout, quiet=quiet)
        self._waits.append(wait)
        return wait

    def forget(self, client: Client) -> None:
        """It is gone, or does not wait any more."""
        self._waits = [wait for wait in self._waits if wait.client is not client]

    # -- time ---------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When ``serve_deadlines`` is due."""
        return min((wait.deadline for wait in self._waits), default=inf)

    def serve_deadlines(self, now: float) -> None:
        """Let those go whose time is over."""
        for wait in [wait for wait in self._waits if wait.deadline <= now]:
            self._end(wait, f"no verdict within {wait.timeout:g} s; the reload goes on", generation=wait.generation)

    # -- events -------------------------------------------------------------------------------------------------------

    def hear(self, event: str, message: str, level: int, fields: Mapping[str, Any]) -> None:
        """Take in what is told to the log."""
        if event == "reload_started":
            for wait in self._waits:
                wait.generation = wait.generation or fields["generation"]
        elif event == "reload_queued":
            for wait in self._waits:
                wait.queued = wait.queued or not wait.generation
        if level >= logging.INFO:
            # Of a reload that is done, the result says the same.
            judged = fields["generation"] if event == "reload_done" else None
            for wait in [wait for wait in self._waits if not wait.quiet and wait.generation != judged]:
                self._tell(
                    wait.client, "progress", event=event, level=logging.getLevelName(level).lower(), message=message
                )
        if event in ("reload_done", "reload_failed"):
            self._judge(event == "reload_done", message, fields)
        elif event in ("stopping", "stop_delayed"):
            for wait in list(self._waits):
                self._end(wait, "the server stops")

    def _judge(self, done: bool, message: str, fields: Mapping[str, Any]) -> None:  # noqa: FBT001 - from two callers in this class
        generation = fields["generation"]
        self.last = {"generation": generation, "ok": done, "reason": "" if done else fields["reason"]}
        for wait in [wait for wait in self._waits if wait.generation == generation]:
            if done:
                self.forget(wait.client)
                self._tell(wait.client, "result", generation=generation, message=message)
            else:
                self._end(wait, str(fields["reason"]), **{name: fields[name] for name in _FIELDS if name in fields})

    def _end(self, wait: Wait, reason: str, **fields: Any) -> None:
        self.forget(wait.client)
        self._tell(wait.client, "refused", reason=reason, **fields)

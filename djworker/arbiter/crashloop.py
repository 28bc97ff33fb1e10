"""Failures in a row and the pauses between them: code that dies as fast as it is forked must not take the machine with it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from djworker.arbiter.commands import Announce
from djworker.arbiter.timing import BACKOFF_DOUBLINGS, BACKOFF_FIRST, BACKOFF_MOST, RETRIES


@dataclass(slots=True)
class CrashLoop:
    """[arbiter] How often the current generation has failed in a row, and when the next try is due."""

    failures: int = 0
    failed_at: float = -inf
    #: Nothing is started before; minus infinity when no try is put off.
    retry_at: float = -inf

    def fail(self, now: float) -> Announce:
        """Count one more failure, and put the next try off, twice as long as the last one."""
        self.failures += 1
        self.failed_at = now
        delay = min(BACKOFF_MOST, BACKOFF_FIRST * 2 ** min(self.failures - 1, BACKOFF_DOUBLINGS))
        self.retry_at = now + delay
        text = f"failure {self.failures} in a row; next try in {delay:g} s"
        return Announce("backoff", "warning", text, {"seconds": delay, "failures": self.failures})

    def may_try(self, now: float) -> bool:
        """Whether something may be started now; if so, nothing is put off any more."""
        if now < self.retry_at:
            return False
        self.put_off_nothing()
        return True

    def put_off_nothing(self) -> None:
        """No try is awaited: a deadline that has passed would keep the loop awake."""
        self.retry_at = -inf

    def forget(self) -> None:
        """Another generation, or the same one after all: whatever failed before says nothing now."""
        self.failures = 0
        self.put_off_nothing()

    @property
    def retries_are_over(self) -> bool:
        """Whether it is time for an older generation, or for the end."""
        return self.failures >= RETRIES

    def is_answered_by(self, ready_at: float) -> bool:
        """Whether a worker that has been ready since then ends the loop, by staying alive."""
        return self.failures > 0 and ready_at > self.failed_at

"""The bookkeeping of reloads: remembered once, announced before it may fail, and ended once, well or badly."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from djworker.arbiter.commands import Announce

if TYPE_CHECKING:
    from djworker.arbiter.probing import Failure


@dataclass(slots=True)
class Rollout:
    """[arbiter] What was asked for, and what the operator has been told of it.

    systemd hears of the beginning and the end too, so each end has a beginning that was told, and none is told twice.
    """

    #: It was asked for at a moment when it had to wait.
    queued: bool = False
    #: Told, and not yet told to have ended.
    begun: bool = False
    #: The last words of a worker of the generation that is being brought in.
    last_words: Failure | None = None

    def queue(self, *, first_start: bool) -> Announce:
        """Remember it; asked for ten times, it comes once."""
        self.queued = True
        text = (
            "the server still starts; a reload will follow"
            if first_start
            else "a reload is under way; one more will follow"
        )
        return Announce("reload_queued", "info", text)

    def begin(self, generation: int) -> Announce:
        """It is under way."""
        self.begun, self.last_words = True, None
        text = f"reload begins with generation {generation}"
        return Announce("reload_started", "info", text, {"generation": generation})

    def finish(self, generation: int) -> Announce:
        """Every worker is of *generation*."""
        self.begun = False
        return Announce("reload_done", "info", f"generation {generation} serves", {"generation": generation})

    def fail(self, generation: int, serving: int, failure: Failure) -> list[Announce]:
        """*generation* is given up; nothing to tell where nothing was begun."""
        told, self.begun = self.begun, False
        text = f"reload failed, generation {serving} serves on: {failure}"
        fields = {"generation": generation, "serving": serving, "reason": str(failure), **asdict(failure)}
        return [Announce("reload_failed", "error", text, fields)] if told else []

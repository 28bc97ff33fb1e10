"""The bookkeeping of reloads: remembered once, announced before it may fail, and ended once, well or badly."""

from __future__ import annotations

from dataclasses import dataclass

from djworker.arbiter.commands import Announce


@dataclass(slots=True)
class Rollout:
    """[arbiter] What was asked for, and what the operator has been told of it.

    systemd hears of the beginning and the end too, so each end has a beginning that was told, and none is told twice.
    """

    #: Somebody asked at a moment when it had to wait.
    queued: bool = False
    #: Told, and not yet told to have ended.
    begun: bool = False

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
        self.begun = True
        text = f"reload begins with generation {generation}"
        return Announce("reload_started", "info", text, {"generation": generation})

    def finish(self, generation: int) -> Announce:
        """Every worker is of *generation*."""
        self.begun = False
        return Announce("reload_done", "info", f"generation {generation} serves", {"generation": generation})

    def fail(self, generation: int, serving: int, reason: str) -> list[Announce]:
        """*generation* is given up; nothing to tell where nothing was begun."""
        told, self.begun = self.begun, False
        text = f"reload failed, generation {serving} serves on: {reason}"
        fields = {"generation": generation, "reason": reason}
        return [Announce("reload_failed", "error", text, fields)] if told else []

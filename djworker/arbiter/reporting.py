"""What the operator reads in the log, and systemd on its socket, of the arbiter's children."""

from __future__ import annotations

import logging
import time
from math import inf
from typing import TYPE_CHECKING, Final

from djworker import log, process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from djworker.arbiter.child import Child
    from djworker.arbiter.commands import Announce
    from djworker.arbiter.fleet import Fleet
    from djworker.arbiter.systemd import Systemd
    from djworker.ipc import messages

logger = logging.getLogger("djworker.arbiter")

#: Characters of a refused message that the log shows.
_SHOWN: Final = 200
#: Characters of a failure's reason that systemd is told.
_STATUS: Final = 300
_LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Reporter:
    """[arbiter] Says what happens; decides and does nothing."""

    def __init__(self, fleet: Fleet, systemd: Systemd) -> None:
        self._fleet = fleet
        self._systemd = systemd
        #: Told of every event, beside the log: name, message, level, fields.
        self.listeners: list[Callable[[str, str, int, Mapping[str, object]], None]] = []
        #: What became of the last reload, where that went wrong.
        self._trouble = ""

    def say(self, event: str, message: str, level: int = logging.INFO, **fields: object) -> None:
        """One event of the log."""
        log.event(logger, level, event, message, **fields)
        for listener in self.listeners:
            listener(event, message, level, fields)

    def announce(self, said: Announce) -> None:
        """What the fleet has to tell; systemd hears of reloads too, and of the end."""
        self.say(said.event, said.message, _LEVELS[said.level], **said.fields)
        if said.event == "reload_started":
            self._trouble = ""
            self._systemd.tell_reloading()
        elif said.event in ("reload_done", "reload_failed"):
            self._trouble = f"reload failed: {said.fields['reason']}" if said.event == "reload_failed" else ""
            self.report_status()
            self._systemd.tell_ready()
        elif said.event in ("stopping", "stop_delayed"):
            self._systemd.tell_stopping()

    def message_refused(self, child: Child, reason: str, message: messages.Message | None, **fields: object) -> None:
        """A child has said what it may not say, and is ended for it."""
        kind, number = child.key
        text = f"the {kind} {number} is ended, because it may not send what it sent: {reason}"
        shown = repr(message)[:_SHOWN] if message is not None else ""
        self.say("message_refused", text, logging.ERROR, child=kind, pid=child.pid, reason=reason, text=shown, **fields)

    # -- molds and workers --------------------------------------------------------------------------------------------

    def mold(self, event: str, generation: int, verb: str, level: int = logging.INFO, **fields: object) -> None:
        """Something that a mold does, or has become."""
        self.say(event, f"generation {generation} {verb}", level, generation=generation, **fields)

    def mold_failed(self, generation: int, failure: messages.MoldFailed) -> None:
        """Code that cannot serve: which, where, and why."""
        fields = {name: getattr(failure, name) for name in ("stage", "module", "error", "traceback")}
        verb = f"does not boot ({failure.stage}, {failure.module}): {failure.error}"
        self.mold("mold_failed", generation, verb, logging.ERROR, **fields)

    def spare_failed(self, generation: int, failure: messages.MoldFailed) -> None:
        """What serves was loaded before, and what is on disk now does not load."""
        fields = {name: getattr(failure, name) for name in ("stage", "module", "error", "traceback")}
        verb = f"has no spare worker, because the code does not load now ({failure.stage}, {failure.module}): {failure.error}"
        self.mold("spare_failed", generation, verb, logging.ERROR, **fields)

    def worker(self, event: str, child: Child, verb: str, level: int = logging.INFO, **fields: object) -> None:
        """Something that a worker does, or has become."""
        handle = self._fleet.processes.workers[child.key[1]]
        text = f"worker {handle.slot} of generation {handle.generation} {verb}"
        self.say(event, text, level, slot=handle.slot, generation=handle.generation, pid=child.pid, **fields)

    def worker_gone(self, child: Child, status: int, running: int) -> None:
        """It is dead, as it was to be or not.

        Args:
            child: the worker.
            status: as in ``process.describe``.
            running: requests at its last beat. One that was killed cannot write their lines into the access log any more.
        """
        text, level = f"ended: {process.describe(status)}", logging.INFO
        if status:
            text, level = f"{text}; requests at its last beat: {running}", logging.ERROR
        self.worker("worker_gone", child, text, level, status=status, running=running if status else 0)

    def fork_failed(self, error: str) -> None:
        """The machine has no process, or no descriptor, for one more."""
        self.say("fork_failed", f"no worker could be forked: {error}", logging.ERROR, error=error)

    # -- the state of the service -------------------------------------------------------------------------------------

    def report(self, beat_of: Callable[[int], float]) -> None:
        """Tell systemd how things are, where it does not know yet.

        Args:
            beat_of: when the hub of the worker with this id last turned, in seconds of the monotonic clock.
        """
        if self._vouches():
            if not self._systemd.ready:
                self._systemd.tell_ready()
            latest = max(beat_of(worker.worker_id) for worker in self._fleet.processes.ready())
            self._systemd.keep_alive(time.monotonic(), latest)
        self.report_status()

    def report_status(self) -> None:
        """One line for ``systemctl status``: the last failure first, as long as no reload has made it good."""
        fleet = self._fleet
        counts = f"{fleet.ready_count()} of {fleet.target} workers ready"
        if self._trouble:
            reason = " ".join(self._trouble.split())[:_STATUS]
            self._systemd.tell_status(f"{reason}, generation {fleet.current} serves on; {counts}")
        else:
            self._systemd.tell_status(f"{counts}, generation {fleet.current}")

    def next_report(self) -> float:
        """When systemd's watchdog is to be petted; never while there is nothing to vouch for."""
        return self._systemd.next_ping() if self._vouches() else inf

    def _vouches(self) -> bool:
        return self._fleet.ready_count() > 0 and not self._fleet.stopping

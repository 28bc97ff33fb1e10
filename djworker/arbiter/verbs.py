"""What control clients can ask for, and how it is done: each verb is an event for the fleet, or a look at what is there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from djworker.arbiter import events, report
from djworker.arbiter.handles import WorkerState
from djworker.arbiter.questions import Questions
from djworker.arbiter.verdicts import Verdicts
from djworker.control.verbs import VERBS, BadRequestError, read_arguments
from djworker.ipc.scoreboard import Gauge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from djworker.arbiter.control import Client, Tell
    from djworker.arbiter.handles import WorkerHandle
    from djworker.arbiter.reporting import Reporter
    from djworker.control.protocol import Request

#: The reason of a recycling, in the log.
ASKED: Final = "asked for"
#: Databases that are paused at a time: what a client names is kept for workers to come.
MOST_PAUSES: Final = 64


class Steered(report.Arbiter, Protocol):
    """What clients steer: ``Loop`` has it."""

    reporter: Reporter

    def happen(self, event: events.Event) -> None:
        """Have the fleet decide, and do what it says."""

    def recycle(self, worker: WorkerHandle, reason: str) -> None:
        """Have a worker replaced."""

    def set_log_level(self, level: str) -> None:
        """Log from this level on, here and in the workers."""


class Verbs:
    """[arbiter] Answers the requests of control clients. Whatever takes time is answered by a later event."""

    def __init__(self, arbiter: Steered, tell: Tell) -> None:
        self._arbiter = arbiter
        self.verdicts = Verdicts(tell)
        self.questions = Questions(arbiter.children, tell)
        #: Until when requests wait for a database, by its alias: for workers that become ready meanwhile.
        self.paused: dict[str, float] = {}
        arbiter.reporter.listeners.append(self.verdicts.hear)
        self._answers: Mapping[str, Callable[[Client, dict[str, Any]], None]] = {
            "hello": lambda client, _: client.say("result", **report.identity(arbiter)),
            "status": self._status,
            "history": self._history,
            "reload": self._reload,
            "scale": self._scale,
            "stop": self._stop,
            "recycle": self._recycle,
            "log-level": self._log_level,
            "requests": self._asking("requests"),
            "trace": self._asking("trace"),
            "pool": self._asking("pool"),
            "kill": self._asking("kill"),
            "pause": self._pause,
            "resume": self._resume,
        }

    def ask(self, client: Client, request: Request) -> None:
        """Answer, now or later."""
        verb = VERBS.get(request.verb)
        if verb is None or verb.local:
            known = ", ".join(verb.name for verb in VERBS.values() if not (verb.hidden or verb.local))
            client.refuse(f"no verb {request.verb!r:.100}; this server knows {known}")
            return
        try:
            arguments = read_arguments(verb, request.arguments)
        except BadRequestError as error:
            client.refuse(str(error))
            return
        self._answers[verb.name](client, arguments)

    def forget(self, client: Client) -> None:
        """The client is gone; what it asked for goes on."""
        self.verdicts.forget(client)
        self.questions.forget(client)

    def next_deadline(self) -> float:
        """When ``serve_deadlines`` is due."""
        return min(self.verdicts.next_deadline(), self.questions.next_deadline())

    def serve_deadlines(self, now: float) -> None:
        """Answer with what is known by now."""
        self.verdicts.serve_deadlines(now)
        self.questions.serve_deadlines(now)

    # -- verbs --------------------------------------------------------------------------------------------------------

    def _status(self, client: Client, _: dict[str, Any]) -> None:
        paused = [{"alias": alias, "seconds": round(left, 1)} for alias, left in self.pauses(time.monotonic()).items()]
        client.say("result", **report.status(self._arbiter), last_reload=self.verdicts.last, paused=paused)

    def _history(self, client: Client, arguments: dict[str, Any]) -> None:
        client.say("result", **report.history(self._arbiter, arguments["since"]))

    def _reload(self, client: Client, arguments: dict[str, Any]) -> None:
        if self._refuses_stopping(client):
            return
        wait = self.verdicts.wait(client, time.monotonic(), arguments["timeout"], quiet=not arguments["wait"])
        self._arbiter.happen(events.Reload())
        if not arguments["wait"]:
            self.verdicts.forget(client)
            if client.asking:
                text = "a reload is under way; one more follows" if wait.queued else "the reload has begun"
                client.say("result", generation=wait.generation, queued=wait.queued, message=text)

    def _scale(self, client: Client, arguments: dict[str, Any]) -> None:
        if self._refuses_stopping(client):
            return
        fleet, wanted = self._arbiter.fleet, arguments["workers"]
        before = fleet.target
        self._arbiter.happen(events.Scale(wanted - before))
        text = f"{fleet.target} workers wanted, {before} before; a reload brings the configured number back"
        client.say("result", workers=fleet.target, before=before, message=text)

    def _stop(self, client: Client, _: dict[str, Any]) -> None:
        running = sum(child.reads(Gauge.RUNNING) for child in self._arbiter.children.workers())
        if self._arbiter.fleet.ending:  # asked twice by signals, it would be a fast one
            client.say(
                "result", message=f"the server is stopping already; requests running: {running}", running=running
            )
            return
        grace = self._arbiter.fleet.policy.graceful_timeout
        client.say("result", message=f"the server stops; {running} running requests have {grace:g} s", running=running)
        self._arbiter.happen(events.Stop(fast=False))

    def _recycle(self, client: Client, arguments: dict[str, Any]) -> None:
        if self._refuses_stopping(client):
            return
        chosen = self.chosen(client, arguments["slot"], alive=True)
        for worker in chosen:
            self._arbiter.recycle(worker, ASKED)
        if chosen:
            slots = [worker.slot for worker in chosen]
            text = f"to be replaced, one by one: {', '.join(map(str, slots))}"
            client.say("result", slots=slots, message=text)

    def _log_level(self, client: Client, arguments: dict[str, Any]) -> None:
        level = arguments["level"]
        self._arbiter.set_log_level(level)
        client.say("result", level=level, message=f"logged from {level} on, until the next reload")

    def _pause(self, client: Client, arguments: dict[str, Any]) -> None:
        now, alias = time.monotonic(), arguments["alias"]
        if len(self.pauses(now).keys() | {alias}) > MOST_PAUSES:
            client.refuse(f"{MOST_PAUSES} databases are paused already")
            return

        def confirm(text: str) -> None:
            """A worker knows the database, and requests wait for it there."""
            if '"refused"' not in text and '"error"' not in text:
                self.paused[alias] = now + arguments["timeout"]

        self._asking("pause", confirm)(client, arguments)

    def _resume(self, client: Client, arguments: dict[str, Any]) -> None:
        self.paused.pop(arguments["alias"], None)
        self._asking("resume")(client, arguments)

    def pauses(self, now: float) -> dict[str, float]:
        """Return for how many seconds yet requests wait for each database that is paused."""
        self.paused = {alias: until for alias, until in self.paused.items() if until > now}
        return {alias: until - now for alias, until in self.paused.items()}

    def _asking(
        self, about: str, hears: Callable[[str], None] | None = None
    ) -> Callable[[Client, dict[str, Any]], None]:
        """A verb whose answer only the workers know."""

        def ask(client: Client, arguments: dict[str, Any]) -> None:
            chosen = self.chosen(client, arguments.pop("slot", None), alive=False)
            if chosen:
                self.questions.ask(client, chosen, about, arguments, hears)

        return ask

    # -- parts of verbs -----------------------------------------------------------------------------------------------

    def _refuses_stopping(self, client: Client) -> bool:
        if self._arbiter.fleet.ending:
            client.refuse("the server is stopping")
            return True
        return False

    def chosen(self, client: Client, slot: int | None, *, alive: bool) -> list[WorkerHandle]:
        """Return the workers of a slot, or all; refuse where there is none. alive: leave out those that are told to go."""
        workers = self._arbiter.fleet.processes.workers.values()
        found = [worker for worker in workers if not alive or worker.state is WorkerState.READY]
        chosen = [worker for worker in found if slot in (None, worker.slot)]
        if not chosen:
            slots = ", ".join(str(number) for number in sorted({worker.slot for worker in found})) or "none"
            what = "no worker is ready" if alive else "there is no worker"
            client.refuse(what if slot is None else f"{what} in slot {slot}; there are: {slots}")
        return chosen

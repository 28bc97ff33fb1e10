"""The selector loop: turns signals, messages, deaths and deadlines into events, and carries out what the fleet commands.

It sleeps exactly until the next deadline, and never blocks on a child.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import sys
import time
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final

from djworker import accounts, log, process
from djworker.arbiter import commands, control, events, lost_requests, probing
from djworker.arbiter.canary import Sample
from djworker.arbiter.deaths import Deaths
from djworker.arbiter.handles import MoldState, Policy
from djworker.arbiter.intake import MessageRefusedError
from djworker.arbiter.listeners import let_go
from djworker.arbiter.logfiles import LogFileError, hand_over
from djworker.arbiter.observer import Observer
from djworker.arbiter.probing import Failure
from djworker.arbiter.reporting import Reporter
from djworker.arbiter.scaling import Reading, Scaler
from djworker.arbiter.status import CAUSES, STATUS_KEY
from djworker.arbiter.verbs import Verbs
from djworker.conf import table
from djworker.conf.span import Span
from djworker.conf.table import Config
from djworker.ipc import messages
from djworker.ipc.contract import EXIT_BOOT, LOST, STACKS_WITHIN
from djworker.ipc.scoreboard import Gauge
from djworker.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from djworker.arbiter.child import Child, Key
    from djworker.arbiter.children import Children
    from djworker.arbiter.commands import Command
    from djworker.arbiter.events import Event
    from djworker.arbiter.fleet import Fleet
    from djworker.arbiter.handles import WorkerHandle
    from djworker.arbiter.listeners import Listener
    from djworker.arbiter.signal_queue import Signals
    from djworker.arbiter.systemd import Systemd
    from djworker.control.protocol import Kind
    from djworker.ipc.channel import Received

#: Reasons to kill a worker that has not moved for too long.
_HANGS: Final = ("boot_timeout", "timeout", "graceful_timeout")
#: What one child says is read up to so many packets, then the others are heard, and signals and deadlines served.
_PACKETS_PER_TURN: Final = 16


def policy_of(config: Config) -> Policy:
    """What a configuration asks of the fleet."""
    return Policy(
        config.workers.least if isinstance(config.workers, Span) else config.workers,
        config.timeout,
        config.boot_timeout,
        config.graceful_timeout,
        probe=bool(config.probe),
        strict=config.strict,
        shutdown_delay=config.shutdown_delay,
        most_workers=int(config.workers) if isinstance(config.workers, Span) else 0,
        canary=config.canary,
    )


def _reading(child: Child) -> Reading:
    """What the scaler looks at. The kernel's time is of now; a busy worker writes its own down late."""
    measured, late = process.runnable_seconds(child.pid), child.reads(Gauge.LATE) / NANOSECONDS
    busy = child.reads(Gauge.CPU) / NANOSECONDS if measured is None else measured
    return Reading(busy, child.reads(Gauge.QUEUED), late, child.reads(Gauge.RSS) << 10)


class Loop:
    """[arbiter] The edge around a ``Fleet``."""

    def __init__(self, fleet: Fleet, children: Children, config: Config, systemd: Systemd, signals: Signals) -> None:
        self.fleet = fleet
        self.children = children
        self.config = config
        self.systemd = systemd
        self.reporter = Reporter(fleet, systemd)
        self.signals = signals
        #: Which generation a mold was asked about; it has not answered yet.
        self._asked: dict[int, int] = {}
        self.offered: dict[int, Config] = {}
        #: Hosts that the generation in force allows, for each generation that is measured by it.
        self.allowed: dict[int, list[str]] = {}
        #: Hosts that each generation itself allowed when it was asked.
        self._own_hosts: dict[int, list[str]] = {}
        self.deaths = Deaths()
        self.exit_code: int | None = None
        self.reexec: Callable[[Loop], None] = lambda _loop: None
        self._selector = selectors.DefaultSelector()
        self._selector.register(signals, selectors.EVENT_READ)
        self._kills: deque[tuple[float, Key]] = deque()
        #: What a client has asked to be logged from on, until the next reload; empty where the configuration says it.
        self.log_level = ""
        self.verbs = Verbs(self, self._tell_client)
        self.observer = Observer()
        self.reporter.listeners.append(self.observer.hear)
        self.control: control.Control | None = None
        for child in children.by_key.values():
            self._watch(child)
        self.status = children.status
        self.scaler = Scaler(fleet.policy.workers, fleet.policy.most_workers)

    # -- the loop -----------------------------------------------------------------------------------------------------

    def run(self, first: Event | None) -> int:
        """Run until no child is left; the exit code."""
        if first is not None:
            self.happen(first)
        while self.exit_code is None:
            self._wait()
            self._serve_signals()
            self._serve_deadlines()
            self.deaths.tell(self.children, self.fleet.current)
            self.reporter.report(self.children.beat_of)
            self._follow_load()
            self.observer.keep(self.fleet, self.children.workers(), time.monotonic())
            self._serve_status()
        return self.exit_code

    def _wait(self) -> None:
        for ready, mask in self._selector.select(self._time_left()):
            if ready.fileobj is self.signals:
                self.signals.clear()
            elif callable(ready.data):  # the control socket, or a client of it
                ready.data(mask)
            elif ready.data in self.children.by_key:  # not forgotten meanwhile
                self._listen(self.children.by_key[ready.data])

    def _time_left(self) -> float | None:
        kill_at = self._kills[0][0] if self._kills else inf
        spares = self.children.loading.values()
        clients = self.control.next_deadline() if self.control is not None else inf
        told_at = self.status.next_deadline() if self.status is not None else inf
        verbs = min(self.verbs.next_deadline(), self.observer.next_deadline())
        look_at = self.scaler.due() if self.fleet.may_resize else inf
        deadline = min(
            self.fleet.next_deadline(), self.reporter.next_report(), kill_at, clients, verbs, told_at, look_at, *spares
        )
        return None if deadline == inf else max(0.0, deadline - time.monotonic())

    def happen(self, event: Event) -> None:
        """Have the fleet take an event in, and do what it commands."""
        for command in self.fleet.handle(event, time.monotonic()):
            self._carry_out(command)

    # -- signals and deaths -------------------------------------------------------------------------------------------

    def _serve_signals(self) -> None:
        numbers = self.signals.take()
        for number in numbers:
            match number:
                case signal.SIGTERM:
                    self.happen(events.Stop(fast=False))
                case signal.SIGINT | signal.SIGQUIT:
                    self.happen(events.Stop(fast=True))
                case signal.SIGHUP:
                    self.happen(events.Reload())
                case signal.SIGTTIN | signal.SIGTTOU:
                    self.happen(events.Scale(+1 if number == signal.SIGTTIN else -1))
                case signal.SIGUSR1:
                    self._reopen_logs()
                case signal.SIGCHLD:
                    self.reap()
        if signal.SIGUSR2 in numbers:  # last: nothing that came with it may be lost in the exec
            self.reexec(self)

    def _reopen_logs(self) -> None:
        log.reopen()
        self._hand_over_the_access_log()
        for child in self.children.workers():
            if child.channel is not None:
                child.channel.send(messages.ReopenLogs())
        self.reporter.say("logs_reopened", "log files reopened")

    def _hand_over_the_access_log(self) -> None:
        """Rotation may have left a file that is not the workers'.

        Only the path that we were started with counts: a later one comes from a mold, which root makes no files for.
        """
        config = self.children.launch.config
        try:
            hand_over(config.access_log, accounts.service_account(config.user, config.group))
        except LogFileError as error:
            self.reporter.say("access_log_lost", str(error), logging.ERROR, error=str(error))

    def reap(self) -> None:
        """Bury every dead child, ours or not."""
        for pid, status in process.reap():
            child = self.children.by_pid(pid)
            if child is not None:
                self._bury(child, status)
            else:
                self.children.keep_unclaimed(pid, status)
                text = "a process that is not ours ended"
                self.reporter.say("orphan_reaped", text, logging.DEBUG, pid=pid, status=status)

    def _bury(self, child: Child, status: int) -> None:
        child.reaped = True
        if child.pid:
            self._listen(child)  # its last words came before its death
        self._unwatch(child)
        running = child.reads(Gauge.RUNNING)
        self._log_lost_requests(child, status)
        kind, number = child.key
        if kind == "worker":
            self.observer.worker_gone(child)
        self.children.forget(child.key)
        if kind != "helper":
            self.deaths.note(kind, child.pid, self._generation_of(child), status)
        if kind == "mold":
            text = f"mold of generation {number} ended"
            self.reporter.say("mold_gone", text, logging.DEBUG, generation=number, status=status)
            self._mold_gone(number, status)
        elif kind == "worker":
            self.reporter.worker_gone(child, status, running)
            self._count_restart(child)
            self.verbs.questions.worker_gone(number)
            self.happen(events.WorkerGone(number, status))
        elif child.key == STATUS_KEY:
            self._status_gone(status)
        else:
            self.reporter.say("reloader_gone", "the files are not watched any more", logging.WARNING, status=status)

    def _log_lost_requests(self, child: Child, status: int) -> None:
        """What a worker had in hand, and did not say itself."""
        lost = lost_requests.read(child.row.fileno()) if child.row is not None else []
        cause = child.cause if child.doomed else process.describe(status)
        try:
            reason = LOST.format(cause or process.describe(status))
            lost_requests.write_lines(lost, child.pid, reason, self.config, self.children.launch.cwd)
        except OSError as error:
            text = f"the access log cannot be opened: {error.strerror}"
            self.reporter.say("access_log_lost", text, logging.ERROR, error=error.strerror)

    def _mold_gone(self, generation: int, status: int) -> None:
        """A spare is missed only when a worker is wanted; but where it had loaded, the next one is made now."""
        handle = self.fleet.processes.molds.get(generation)
        if generation in self.children.alone and handle is not None and handle.state is MoldState.READY:
            if self.children.loading.pop(generation, None) is None:
                self._start_spare(generation)
            return
        self.children.alone.discard(generation)
        self.children.loading.pop(generation, None)
        self.happen(events.MoldGone(generation, status))
        for notes in (self.offered, self.allowed, self._own_hosts, self._asked):
            notes.pop(generation, None)

    def _start_spare(self, generation: int) -> None:
        try:
            deadline = time.monotonic() + self.fleet.policy.boot_timeout
            self._watch(self.children.start_spare(generation, deadline))
            if generation in self._asked:  # the one before has become a worker
                self._probe_mold(generation, self._asked[generation])
        except OSError as error:  # the next worker is loaded without
            self.reporter.fork_failed(str(error))

    # -- the number of workers ----------------------------------------------------------------------------------------

    def _follow_load(self) -> None:
        """Where the options leave the number of workers open, have the scoreboard say how many are needed."""
        now = time.monotonic()
        if not self.fleet.may_resize or now < self.scaler.due():
            return
        policy = self.fleet.policy
        self.scaler.least, self.scaler.most = policy.workers, policy.most_workers
        children = {
            worker.worker_id: self.children.by_key.get(("worker", worker.worker_id))
            for worker in self.fleet.processes.ready()
        }
        readings = {number: _reading(child) for number, child in children.items() if child is not None}
        verdict = self.scaler.look(readings, self.fleet.target, process.free_memory(), now)
        if verdict is None:
            return
        if verdict.workers == self.fleet.target:
            self.reporter.say("scaling_held", verdict.reason, logging.WARNING, workers=verdict.workers)
        else:
            self.happen(events.Resize(verdict.workers, verdict.reason))

    # -- the status process ---------------------------------------------------------------------------------------------

    def _serve_status(self) -> None:
        """Tell it how the service is; start it where it does not run."""
        if self.status is None:
            return
        self.status.tell(self.fleet, self.children)
        now = time.monotonic()
        if self.status.is_due(now):
            try:
                self._watch(self.status.start(self.children, now))
            except OSError as error:
                self.reporter.say("status_gone", f"no status process: {error}", logging.ERROR, error=str(error))

    def end_status(self) -> None:
        """It is the last to go: it keeps nothing that could be lost."""
        if self.status is None:
            return
        self.children.kill(STATUS_KEY)
        child = self.children.by_key.get(STATUS_KEY)
        if child is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, 0)
        self.status.close()

    def _status_gone(self, status: int) -> None:
        """The service goes on without it, and another one comes."""
        if self.status is not None:
            pause = self.status.ended(time.monotonic())
            text = f"the status process ended: {process.describe(status)}; another one is started"
            self.reporter.say("status_gone", text, logging.WARNING, status=status, seconds=round(pause, 3))

    def _count_restart(self, child: Child) -> None:
        if self.fleet.stopping:
            return
        handle = self.fleet.processes.workers[child.key[1]]
        if child.cause:
            cause = child.cause
        elif handle.generation != self.fleet.current:
            cause = "reload"
        else:
            cause = "scaled" if handle.leaving else "crash"
        self.observer.restarted(child.slot, cause)
        if self.status is not None:
            self.status.worker_gone(cause)

    # -- deadlines ----------------------------------------------------------------------------------------------------

    def _serve_deadlines(self) -> None:
        now = time.monotonic()
        if now >= self.fleet.next_deadline():
            for worker in self.fleet.processes.beating():
                self.happen(events.Heartbeat(worker.worker_id, self.children.beat_of(worker.worker_id)))
            self._read_stacks()
            if self.fleet.canary is not None:
                self.happen(events.Sampled(self._samples()))
            self.happen(events.DeadlineReached())
        self._serve_clients(now)
        while self._kills and self._kills[0][0] <= now:
            self.children.kill(self._kills.popleft()[1])
        for generation in [number for number, end in self.children.loading.items() if end <= now]:
            self.children.loading[generation] = inf
            text = f"killing the spare worker of generation {generation}: boot_timeout"
            self.reporter.say("mold_killed", text, logging.ERROR, reason="boot_timeout")
            self.children.kill(("mold", generation))

    def _samples(self) -> dict[int, Sample]:
        """What ready workers say that they have counted."""
        counted = (Gauge.REQUESTS, Gauge.ERRORS, Gauge.STALLS)
        children = self.children.by_key
        found = {
            worker.worker_id: children.get(("worker", worker.worker_id)) for worker in self.fleet.processes.ready()
        }
        return {
            number: Sample(*(child.reads(gauge) for gauge in counted))
            for number, child in found.items()
            if child is not None
        }

    def _serve_clients(self, now: float) -> None:
        self.verbs.serve_deadlines(now)
        if self.control is not None:
            self.control.serve_deadlines(now)

    def _read_stacks(self) -> None:
        """Of molds that hang in C code, and cannot say so themselves."""
        for mold in self.fleet.processes.mute_molds():
            stack = self.children.stack_of(mold.generation)
            if stack and time.monotonic() >= mold.deadline:
                self._on_mold_failed(mold.generation, messages.MoldFailed("boot_timeout", "", "hangs in C code", stack))

    # -- the control socket -------------------------------------------------------------------------------------------

    def open_control(self, listener: Listener, trusted: Collection[int]) -> None:
        """Answer clients there. trusted: user ids that may ask; root may."""
        self.control = control.Control(listener, self._selector, self.verbs, trusted)
        self.children.control_address = listener.address.path

    def close_control(self) -> None:
        """Answer no client any more."""
        if self.control is not None:
            self.control.close()
            self.control = None

    def _tell_client(self, client: control.Client, kind: Kind, /, **fields: object) -> None:
        if self.control is not None:
            self.control.tell(client, kind, **fields)

    def recycle(self, worker: WorkerHandle, reason: str) -> None:
        """Have a worker replaced, as if it had asked for that itself."""
        child = self.children.by_key["worker", worker.worker_id]
        child.cause = "asked"
        self.reporter.worker("recycle_wanted", child, f"is to be replaced: {reason}", reason=reason)
        self.happen(events.Recycle(worker.worker_id, reason))

    def set_log_level(self, level: str) -> None:
        """Log from *level* on, here and in the workers, until a reload brings the configured level back."""
        self.log_level = level
        log.configure(level, self.config.log_format, "arbiter")
        self.reporter.say("log_level", f"logging from {level} on, as asked", log_level=level)
        for child in self.children.workers():
            self._send_log_level(child)

    def _send_pauses(self, child: Child) -> None:
        """It waits with the others; what it answers is asked by no client."""
        for alias, left in self.verbs.pauses(time.monotonic()).items():
            if child.channel is not None:
                child.channel.send(messages.WorkerAsked(0, "pause", {"alias": alias, "timeout": left}))

    def _send_log_level(self, child: Child) -> None:
        if self.log_level and child.channel is not None:
            child.channel.send(messages.SetLogLevel(self.log_level))

    # -- messages -----------------------------------------------------------------------------------------------------

    def _watch(self, child: Child) -> None:
        if child.channel is not None:
            self._selector.register(child.channel, selectors.EVENT_READ, child.key)

    def _unwatch(self, child: Child) -> None:
        if child.channel is not None and child.channel.fileno() in self._selector.get_map():
            self._selector.unregister(child.channel)

    def _listen(self, child: Child) -> None:
        """Take in what it has said, up to a limit: one child that never stops must not keep the others waiting."""
        for _packet in range(_PACKETS_PER_TURN):
            if child.channel is None:
                return
            received = child.channel.receive()
            if received.messages:
                self._hear(child, received)
            if received.eof:
                self._unwatch(child)
                if child.key[0] == "worker" and not child.pid:  # the mold died with our request, or before it told us
                    self._bury_nameless(child)
            if received.eof or not received.messages:
                return

    def _hear(self, child: Child, received: Received) -> None:
        """Whatever fails in taking a message in is its sender's end, never ours."""
        message: messages.Message | None = None
        try:
            child.intake.pay(received.size, time.monotonic())
            status = self._identify(child, received.sender)
            for message in received.messages:
                if child.intake.admit(message):
                    self._take_in(child, message)
        except MessageRefusedError as error:
            self._end_liar(child, str(error), message)
        except Exception as error:  # noqa: BLE001 - a fault of ours, which this child knows to provoke
            self._end_liar(child, f"it could not be taken in: {error!r}", message, exc_info=True)
        else:
            if status is not None and child.key in self.children.by_key:
                self._bury(child, status)

    def _identify(self, child: Child, sender: int | None) -> int | None:
        """The kernel says who sent it; the status of a sender that is dead and reaped already."""
        if sender is None or sender == child.pid:
            return None
        return self.children.claim(child.key, sender)

    def _end_liar(self, child: Child, reason: str, message: messages.Message | None, **fields: object) -> None:
        self.reporter.message_refused(child, reason, message, **fields)
        self.children.learn_pid(child)
        self._hang_up(child.key)
        self.children.kill(child.key)

    def _take_in(self, child: Child, message: messages.Message) -> None:  # noqa: C901, PLR0912 - one line for each message
        number = child.key[1]
        match message:
            case messages.MoldReady(config):
                self._on_mold_ready(child, Config.from_json(config))
            case messages.LoadsAlone():
                self.children.alone.add(number)
            case messages.MoldFailed():
                self._on_said_failed(child, message)
            case messages.Probed():
                self._on_probed(number, message)
            case messages.WorkerForked(worker_id, pid):
                self._on_forked(number, worker_id, pid)
            case messages.ForkFailed(worker_id, error):
                self._on_fork_failed(number, worker_id, error)
            case messages.WorkerReady():
                self._on_worker_ready(child)
            case messages.WorkerBootFailed(error, traceback):
                self.reporter.say(
                    "worker_boot_failed", f"a worker did not boot: {error}", logging.ERROR, traceback=traceback
                )
                self.happen(events.WorkerFailed(number, Failure("workers", "", error, traceback)))
            case messages.WorkerAnswered():
                self.verbs.questions.hear(number, message)
            case messages.RecycleWanted(reason):
                child.cause = reason if reason in CAUSES else "other"
                self.reporter.worker("recycle_wanted", child, f"is to be replaced: {reason}", reason=reason)
                self.happen(events.Recycle(number, reason))
            case messages.ListenersClosed():
                self.happen(events.WorkerClosed(number))
            case messages.FilesChanged(paths):
                self.reporter.say("files_changed", f"changed: {', '.join(paths[:3])}", paths=paths)
                self.happen(events.Reload())
            case _:
                self.reporter.say(
                    "unknown_message", "a message of another version", logging.WARNING, text=repr(message)[:200]
                )

    def _generation_of(self, child: Child) -> int:
        kind, number = child.key
        return self.fleet.processes.workers[number].generation if kind == "worker" else number

    def _on_mold_failed(self, generation: int, said: messages.MoldFailed) -> None:
        self.reporter.mold_failed(generation, said)
        self.happen(events.MoldBootFailed(generation, Failure(said.stage, said.module, said.error, said.traceback)))

    def _on_probed(self, generation: int, said: messages.Probed) -> None:
        self._asked.pop(generation, None)
        try:
            answers = probing.read(said.answers)
        except ValueError as error:
            raise MessageRefusedError(str(error)) from None
        by_spare = generation in self.children.alone and generation != said.about
        if generation == said.about:
            self._own_hosts[generation] = said.hosts
        else:
            self.allowed[said.about] = self._own_hosts.get(generation, said.hosts) if by_spare else said.hosts
        self.happen(events.GenerationProbed(generation, said.about, answers, by_spare))

    def _on_mold_ready(self, child: Child, config: Config) -> None:
        generation = child.key[1]
        if generation in self.children.loading:
            del self.children.loading[generation]
            self.reporter.mold("spare_ready", generation, "has a spare worker", pid=child.pid)
            return
        self.reporter.mold("mold_ready", generation, "is loaded", pid=child.pid)
        self.offered[generation] = table.adopt(self.config, config)
        self._say_what_needs_a_restart(config)
        self.happen(events.MoldBooted(generation, policy_of(config)))

    def _on_said_failed(self, child: Child, said: messages.MoldFailed) -> None:
        kind, number = child.key
        if kind == "mold" and number in self.children.loading:
            self.reporter.spare_failed(number, said)
        else:
            self._on_mold_failed(self._generation_of(child), said)

    def _say_what_needs_a_restart(self, config: Config) -> None:
        _adopted, fixed = table.changes(self.config, config)
        if fixed:
            text = f"changed, but only a restart adopts it: {', '.join(fixed)}"
            self.reporter.say("needs_restart", text, logging.WARNING, options=fixed)

    def _forked_by(self, generation: int, worker_id: int) -> Child | None:
        """The worker that a mold speaks of; None where it is buried already, because EOF on its own channel was quicker."""
        child = self.children.by_key.get(("worker", worker_id))
        if child is not None and self._generation_of(child) != generation:
            raise MessageRefusedError(f"worker {worker_id} is not of generation {generation}")
        return child

    def _on_forked(self, generation: int, worker_id: int, pid: int) -> None:
        child = self._forked_by(generation, worker_id)
        status = self.children.claim(("worker", worker_id), pid)
        if child is not None:
            self.reporter.worker("worker_spawned", child, "forked")
            if status is not None:
                self._bury(child, status)

    def _on_fork_failed(self, generation: int, worker_id: int, error: str) -> None:
        child = self._forked_by(generation, worker_id)
        if child is not None and child.pid:
            raise MessageRefusedError(f"worker {worker_id} was forked: it is process {child.pid}")
        self.reporter.fork_failed(error)
        if child is not None:
            self._bury(child, 1)

    def _bury_nameless(self, child: Child) -> None:
        """A worker of unknown pid is gone; where it did live, it is reaped like any other."""
        status = self.children.learn_pid(child)
        if not child.pid:
            self._bury(child, 1)
        elif status is not None:
            self._bury(child, status)

    def _on_worker_ready(self, child: Child) -> None:
        status = self.children.learn_pid(child)
        self.reporter.worker("worker_ready", child, "ready")
        self._send_log_level(child)
        self._send_pauses(child)
        self.happen(events.WorkerBooted(child.key[1]))
        if status is not None:
            self._bury(child, status)

    # -- commands -----------------------------------------------------------------------------------------------------

    def _carry_out(self, command: Command) -> None:  # noqa: C901 - one line for each command
        match command:
            case commands.BootMold(generation):
                self._boot_mold(generation)
            case commands.ProbeMold(generation, about):
                self._probe_mold(generation, about)
            case commands.QuestionMold(generation):
                self._question_mold(generation)
            case commands.StopMold(generation):
                self._stop_mold(generation)
            case commands.KillMold(generation, reason):
                self.reporter.say(
                    "mold_killed", f"killing the mold of generation {generation}: {reason}", reason=reason
                )
                self.children.kill(("mold", generation))
            case commands.ForkWorker():
                self._spawn_worker(command)
            case commands.RetireWorker():
                self._retire(command)
            case commands.KillWorker(worker_id, reason):
                self._kill_worker(worker_id, reason)
            case commands.AdoptConfig(generation):
                self._adopt(generation)
            case commands.Announce():
                self._announce(command)
            case commands.Exit(code):
                self.exit_code = code

    def _boot_mold(self, generation: int) -> None:
        try:
            child = self.children.boot_mold(generation)
        except OSError as error:  # a reload that cannot even begin leaves the site as it is
            self._on_mold_failed(generation, messages.MoldFailed("start", sys.executable, str(error), ""))
            self.happen(events.MoldGone(generation, EXIT_BOOT))
            return
        self._watch(child)
        self.reporter.mold("mold_booting", generation, "is being loaded", pid=child.pid)

    def _probe_mold(self, generation: int, about: int) -> None:
        child = self.children.by_key.get(("mold", generation))
        config = self.offered.get(about, self.config)
        self._asked[generation] = about
        if child is None and generation in self.children.alone:  # it has no spare worker now, which could answer
            self.allowed[about] = self._own_hosts.get(generation, [])
            self.happen(events.GenerationProbed(generation, about, {}, by_spare=True))
        if child is not None and child.channel is not None:
            child.channel.send(messages.Probe(about, list(config.probe), self.allowed.get(about, [])))

    def _question_mold(self, generation: int) -> None:
        """A signal handler of the mold's answers on its channel; faulthandler writes where even that cannot run."""
        child = self.children.by_key.get(("mold", generation))
        if child is not None and child.pid and not child.reaped:
            process.kill(child.pid, signal.SIGUSR2)

    def _stop_mold(self, generation: int) -> None:
        key: Key = ("mold", generation)
        if key not in self.children.by_key:  # of a generation without a spare at this moment
            self._mold_gone(generation, 0)
        elif generation in self.children.loading:  # it would load to the end first
            self.children.kill(key)
        else:
            self._hang_up(key)

    def _spawn_worker(self, command: commands.ForkWorker) -> None:
        generation = command.generation
        spare = self.children.spare(generation)
        if spare is not None:
            self._unwatch(spare)
        try:
            child = self.children.spawn_worker(command)
        except OSError as error:
            self.reporter.fork_failed(str(error))
            self.happen(events.WorkerGone(command.worker_id, 1))
            return
        self._watch(child)
        if generation in self.children.alone:
            self.reporter.worker("worker_spawned", child, "was the spare" if spare is not None else "loads the project")
            if ("mold", generation) not in self.children.by_key:
                self._start_spare(generation)

    def _hang_up(self, key: Key) -> None:
        child = self.children.by_key.get(key)
        if child is not None:
            self._unwatch(child)
            self.children.hang_up(key)

    def _retire(self, command: commands.RetireWorker) -> None:
        child = self.children.by_key["worker", command.worker_id]
        self.reporter.worker("worker_retired", child, "retires")
        if child.channel is not None:
            child.channel.send(messages.Retire(command.grace, command.empty_backlog))

    def _kill_worker(self, worker_id: int, reason: str) -> None:
        key: Key = ("worker", worker_id)
        child = self.children.by_key[key]
        status = self.children.learn_pid(child)
        if not self.fleet.processes.workers[worker_id].leaving:
            child.cause = reason
        text = f"killing worker {child.slot}: {reason}"
        fields = {"slot": child.slot, "pid": child.pid, "running": child.reads(Gauge.RUNNING)}
        self.reporter.say("worker_killed", text, logging.ERROR, reason=reason, **fields)
        if not child.pid:  # asked for and never forked: it is the mold that is stuck
            self.children.kill(("mold", self.fleet.processes.workers[worker_id].generation))
            self._bury(child, 1)
        elif status is not None:
            self._bury(child, status)
        elif reason in _HANGS:  # an operator will ask why
            process.kill(child.pid, signal.SIGQUIT)  # faulthandler writes every stack, even where C code holds the GIL
            self._kills.append((time.monotonic() + STACKS_WITHIN, key))
        else:
            self.children.kill(key)

    def _adopt(self, generation: int) -> None:
        new = self.offered.get(generation, self.config)
        adopted, _fixed = table.changes(self.config, new)
        self.config = new
        if adopted or self.log_level:
            log.configure(new.log_level, new.log_format, "arbiter")
            self.log_level = ""
        if adopted:
            values = {name: getattr(new, name) for name in adopted}
            self.reporter.say("config_adopted", f"new settings: {', '.join(adopted)}", options=values)

    def _announce(self, said: commands.Announce) -> None:
        self.reporter.announce(said)
        if self.status is not None:
            self.status.announced(said.event)
        if said.event == "stopping":
            self._let_go()

    def _let_go(self) -> None:
        """Of the sockets: when the last worker has emptied the backlog, clients are refused at once."""
        self._hang_up(("helper", 0))
        let_go(self.children.listeners)
        self.children.listeners.clear()

"""[mold] The mold's own loop: it forks workers of one generation on request, and has children asked meanwhile."""

from __future__ import annotations

import contextlib
import os
import posix as raw
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn

from djworker import process
from djworker.ipc import messages
from djworker.ipc.channel import Channel
from djworker.ipc.contract import EXIT_BOOT, HOOK_MARGIN, HOOK_TIMEOUT
from djworker.ipc.regions import Region
from djworker.ipc.scoreboard import Gauge, Row
from djworker.mold import checks, forked_call, probe, probing, project, reporting, restarting
from djworker.mold.patches import forks, multiprocess
from djworker.worker.loaded import Project

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from djworker.mold.forked_call import Asked

__all__ = ["Mold", "flush", "leave"]

#: gevent's own would run the hub.
_poll = process.unpatched("select", "poll")
_READABLE: Final = 1  # POLLIN; gevent has taken its name out of the module
#: Seconds for all receivers of ``process_gone``.
_GONE_TIMEOUT: Final = HOOK_TIMEOUT + HOOK_MARGIN


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """[mold] What a child is being asked, and what is done when it has said all, or has run out of time."""

    asked: Asked
    take_in: Callable[[Asked], None]
    #: What it does is done once: it goes on where this process becomes a worker.
    lasting: bool = False


@dataclass(slots=True)
class Mold:
    """[mold] Forks workers of one generation on request."""

    generation: int
    arbiter: int
    channel: Channel
    listeners: Sequence[int]
    #: The soft one that the server was started with.
    descriptor_limit: int
    #: Where there is no subreaper, the row of the worker that this mold is to become, and its region.
    row_fds: Sequence[int] = ()
    project: Project = field(default_factory=Project)
    #: Children that are being asked something.
    questions: list[Question] = field(default_factory=list)

    def serve(self) -> NoReturn:
        """Fork on request, until the channel closes."""
        self.channel.set_blocking(True)
        if self.project.config.check_migrations == "warn":
            self._ask_for_migrations()
        while True:
            self._hear_answers()
            received = self.channel.receive()
            if received.eof:
                self._leave()
            fds = list(received.fds)
            for message in received.messages:
                if isinstance(message, messages.SpawnWorker) and len(fds) > 1:
                    self._give_worker(message, fds)
                elif isinstance(message, messages.Probe):
                    self._probe(message)
                elif isinstance(message, messages.ProcessGone):
                    self._tell_of(message)

    def _leave(self) -> NoReturn:
        """What the project has begun while loading ends with this process."""
        multiprocess.end_children()
        if not self.project.is_shared:
            from djworker.worker import main as worker_main

            worker_main.run_exit_handlers()
            process.terminate_children()
        raw._exit(0)

    def _probe(self, request: messages.Probe) -> None:
        """Have a child answer; this process goes on, since a worker that dies meanwhile must be replaced."""
        try:
            asked = probing.begin(self.project, request.paths, request.hosts, self.forsake)
        except OSError as error:
            reporting.cannot_be_asked(self.generation, error)
            self.channel.send(messages.Probed(request.about, probe.allowed_hosts(), {}))
        else:
            self.questions.append(Question(asked, lambda asked: self._tell_answers(asked, request)))

    def _tell_answers(self, asked: Asked, request: messages.Probe) -> None:
        transcript = probing.transcript_of(asked, request.about)

        def tell() -> None:
            self.channel.send(transcript.as_message(probe.allowed_hosts()))

        def end() -> NoReturn:
            tell()
            leave(EXIT_BOOT)

        probing.ask_here(self.project, request.paths, request.hosts, transcript, asked.deadline, end)
        tell()
        self._tell_of(messages.ProcessGone("probe", asked.pid, self.generation, 0))

    def _tell_of(self, death: messages.ProcessGone) -> None:
        """Have a child run the receivers, if there are any: none of what they do stays here."""
        if not project.hears("process_gone"):
            return

        def tell(write: forked_call.Write) -> None:
            self.forsake()
            fields = {"pid": death.pid, "generation": death.generation, "status": int(death.status)}
            self.project.notify("process_gone", kind=death.kind, **fields)
            write(probe.END)

        try:
            asked = forked_call.begin(tell, _GONE_TIMEOUT)
            self.questions.append(Question(asked, lambda asked: _end_hook(asked, death), lasting=True))
        except OSError as error:
            reporting.receivers_not_told(death, str(error))

    def _ask_for_migrations(self) -> None:
        """Beside everything else: to read all migrations takes time, and the database may be away."""

        def answer() -> str:
            self.forsake()
            return checks.ask_for_migrations()

        with contextlib.suppress(OSError):  # no process for it: those that matter will say so
            asked = forked_call.begin_asking(answer, checks.MIGRATIONS_WITHIN)
            self.questions.append(Question(asked, checks.take_in))

    def _hear_answers(self) -> None:
        """Until the channel has something, or no child is being asked any more."""
        while self.questions:
            poll = _poll()
            for fd in (self.channel.fileno(), *(question.asked.fd for question in self.questions)):
                poll.register(fd, _READABLE)
            due = min(question.asked.deadline for question in self.questions) - time.monotonic()
            ready = {fd for fd, _mask in poll.poll(max(0, due) * 1000)}
            if self.channel.fileno() in ready:  # first: a worker may be wanted, and to take in an answer may take time
                return
            for question in self.questions[:]:
                asked = question.asked
                ended = asked.fd in ready and (not asked.read() or asked.said.endswith(probe.END))
                if ended or time.monotonic() >= asked.deadline:
                    self.questions.remove(question)
                    question.take_in(asked)

    def _give_worker(self, request: messages.SpawnWorker, fds: Sequence[int]) -> None:
        """Fork it, or become it."""
        if self.project.is_shared:
            self._fork(request, fds)
            return
        for question in self.questions:  # the next spare worker is asked again
            if not question.lasting:
                process.kill(question.asked.pid, signal.SIGKILL)
                question.asked.finish()
        row = Row(fds[1])
        row[Gauge.PID] = os.getpid()
        self.channel.close()
        self.become_worker(request.slot, Channel.from_fd(fds[0]), row, fds[2:])

    def _fork(self, request: messages.SpawnWorker, fds: Sequence[int]) -> None:
        """Fork twice, so that the worker is orphaned at once and becomes the arbiter's own child (its subreaper)."""
        read, write = raw.pipe()
        try:
            middle = forks.fork()
        except OSError as error:
            self.channel.send(messages.ForkFailed(request.worker_id, str(error)))
            middle = -1
        if middle == 0:
            raw.close(read)
            self._fork_again(request, fds, write)
        for end in (write, *fds):
            raw.close(end)
        if middle > 0:
            self._tell_pid(request, middle, read)
        raw.close(read)

    def _fork_again(self, request: messages.SpawnWorker, fds: Sequence[int], write: int) -> NoReturn:
        """[the middle process] Lives for one more fork."""
        restarting.end_before_fork()
        try:
            pid = forks.fork()
        except OSError as error:
            raw.write(write, f"!{error}".encode())
            raw._exit(1)
        if pid:
            raw.write(write, str(pid).encode())
            raw._exit(0)
        row = Row(fds[1])
        row[Gauge.PID] = os.getpid()  # first of all: the mold may die before it tells
        raw.close(write)
        for question in self.questions:
            raw.close(question.asked.fd)
        self.channel.close()
        process.wait_for_parent(self.arbiter)
        self.become_worker(request.slot, Channel.from_fd(fds[0]), row, fds[2:])

    def _tell_pid(self, request: messages.SpawnWorker, middle: int, read: int) -> None:
        answer = raw.read(read, 1024).decode()
        raw.waitpid(middle, 0)
        if answer.isdigit():
            self.channel.send(messages.WorkerForked(request.worker_id, int(answer)))
        else:
            error = answer.removeprefix("!") or "the middle process died"
            self.channel.send(messages.ForkFailed(request.worker_id, error))

    def become_worker(self, slot: int, channel: Channel, row: Row, region_fds: Sequence[int] = ()) -> NoReturn:
        """[worker] From here on this process is a worker.

        Args:
            slot: which of the workers it is.
            channel: to the arbiter.
            row: of the scoreboard.
            region_fds: its region's, where metrics are wanted.
        """
        from djworker.worker import main as worker_main

        guard = forks.Guard(row.close, descriptor_limit=self.descriptor_limit)
        region = Region(region_fds[0]) if region_fds else None
        worker_main.run(self.project, channel, row, self.listeners, self.generation, slot, self.arbiter, guard, region)

    def forsake(self) -> None:
        """[a child of the project's code] Have no part in what the mold is for."""
        self.channel.close()
        for fd in (*self.listeners, *self.row_fds):
            raw.close(fd)


def _end_hook(asked: Asked, death: messages.ProcessGone) -> None:
    if code := os.waitstatus_to_exitcode(asked.finish()):
        late = probing.was_late(code)
        why = f"still run after {_GONE_TIMEOUT:g} s" if late else f"ended with {process.describe(code)}"
        reporting.receivers_not_told(death, why)


def leave(code: int) -> NoReturn:
    """End at once: a thread that the project left behind, which may be why we leave, would keep the process.

    The processes that it has begun end, too: one that nothing talks to any more would keep the terminal, or a job's pipe, open.
    """
    flush()
    process.terminate_children()
    raw._exit(code)


def flush() -> None:
    """Write what is buffered."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a full disk; closed, or None, by the project
            stream.flush()

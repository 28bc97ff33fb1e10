"""The mold: a fresh interpreter that loads one generation of the code, checks and warms it, and then only forks.

It is patched before anything else is imported, so code that was imported too early cannot exist in it. It never runs gevent's
loop between the fork requests: a hub that runs must not be copied into children.
"""

from __future__ import annotations

from djworker.mold.patches import patching

patching.patch_all()

from djworker.mold.patches import asyncio_loops

asyncio_loops.install()

import argparse
import contextlib
import logging
import os
import posix as raw
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn

from djworker import accounts, log, process
from djworker.ipc import messages
from djworker.ipc.channel import Channel
from djworker.ipc.contract import EXIT_BOOT, HOOK_MARGIN, HOOK_TIMEOUT, PROBE_TIMEOUT, Flag
from djworker.ipc.launch import Launch
from djworker.ipc.regions import Region
from djworker.ipc.scoreboard import Gauge, Row
from djworker.mold import checks, forked_call, hangs, probe, project, restarting
from djworker.mold.patches import forks, multiprocess, resolver
from djworker.mold.project import BootError, Project
from djworker.worker import collector, signal_handlers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from djworker.mold.forked_call import Asked

logger = logging.getLogger("djworker.mold")
#: gevent's own would run the hub.
_poll = process.unpatched("select", "poll")

#: Seconds for all receivers of ``process_gone``.
_GONE_TIMEOUT: Final = HOOK_TIMEOUT + HOOK_MARGIN
#: A terminal sends these to every process of its group; here, only the arbiter says what to do.
_READABLE: Final = 1  # POLLIN; gevent has taken its name out of the module
_IGNORED: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


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

        def answer(write: forked_call.Write) -> None:
            self.forsake()
            probe.answer(self.project.app, _asked_of_a_copy(self.project, request.paths), request.hosts, write)

        try:
            asked = forked_call.begin(answer, PROBE_TIMEOUT)
        except OSError as error:
            text = f"generation {self.generation} cannot be asked what it answers: {error}"
            log.event(logger, logging.WARNING, "probe_failed", text, generation=self.generation, error=str(error))
            self.channel.send(messages.Probed(request.about, probe.allowed_hosts(), {}))
        else:
            self.questions.append(Question(asked, lambda asked: self._tell_answers(asked, request)))

    def _tell_answers(self, asked: Asked, request: messages.Probe) -> None:
        transcript = _transcript(asked, request.about)

        def tell() -> None:
            self.channel.send(transcript.as_message(probe.allowed_hosts()))

        def end() -> NoReturn:
            tell()
            _leave(EXIT_BOOT)

        if not self.project.is_shared:
            _ask_here(self.project, request.paths, request.hosts, transcript, asked.deadline, end)
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
            _say_not_told(death, str(error))

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
        """[worker] From here on this process is a worker. region_fds: its region's, where metrics are wanted."""
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
    """Receivers that raise have been told of by then."""
    if code := os.waitstatus_to_exitcode(asked.finish()):
        late = code in (-signal.SIGALRM, -signal.SIGKILL)
        _say_not_told(
            death,
            f"still run after {_GONE_TIMEOUT:g} s" if late else f"ended with {process.describe(code)}",
        )


def _say_not_told(death: messages.ProcessGone, why: str) -> None:
    text = f"the receivers of process_gone for the {death.kind} {death.pid}: {why}"
    log.event(logger, logging.ERROR, "hook_failed", text, receiver="process_gone", error=why)


def _transcript(asked: Asked, about: int) -> probe.Transcript:
    status = asked.finish()
    transcript = probe.Transcript(about)
    transcript.read(asked.said)
    code = os.waitstatus_to_exitcode(status)
    late = code in (-signal.SIGALRM, -signal.SIGKILL)
    transcript.close(
        f"no answer within {PROBE_TIMEOUT:g} s" if late else f"the process ended: {process.describe(code)}"
    )
    return transcript


def _asked_of_a_copy(project: Project, paths: Sequence[str]) -> Sequence[str]:
    """Pages may need a thread that the project has begun, which no copy of this process has."""
    return paths if project.is_shared else ()


def _ask_here(
    project: Project,
    paths: Sequence[str],
    hosts: Sequence[str],
    transcript: probe.Transcript,
    deadline: float,
    end: Callable[[], NoReturn],
) -> None:
    """Have this process, which is to become a worker, answer what no copy of it can.

    end: tells of the transcript and ends the process, where a page does not let it go on.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        return
    late = f"no answer within {left:.0f} s"

    def end_late() -> NoReturn:
        transcript.close(late)
        end()

    probe.answer_here(project.app, paths, hosts, transcript.read, left, end_late)
    transcript.close(late)


def main(arguments: Sequence[str]) -> NoReturn:
    """Boot, report, fork."""
    process.open_standard_streams()
    options = _parse(arguments)
    launch = Launch.from_environ(os.environ)
    process.ignore_signals(_IGNORED)
    process.raise_descriptor_limit()
    descriptor_limit = launch.descriptor_limit
    log.configure(launch.config.log_level, launch.config.log_format, "mold")
    log.capture_warnings()
    resolver.install()
    multiprocess.install()
    signal_handlers.install()
    if options.check:
        forks.Guard(collector.release, descriptor_limit=descriptor_limit).install()
        _leave(_check(launch))
    row_fds = (options.row,) if options.row >= 0 else ()
    stacks = (options.stacks,) if options.stacks >= 0 else ()
    region_fds = (options.region,) if options.region >= 0 else ()
    _keep_from_others((options.channel, *row_fds, *region_fds, *stacks, *options.listeners))
    channel = Channel.from_fd(options.channel)
    channel.set_blocking(True)
    mold = Mold(
        options.generation, options.arbiter, channel, options.listeners, descriptor_limit, (*row_fds, *region_fds)
    )
    forks.Guard(mold.forsake, collector.release, descriptor_limit=descriptor_limit).install()
    mold.project = _boot(launch, options, channel)
    process.set_title(f"djworker: mold gen {options.generation} [{mold.project.title}]")
    if options.slot is not None:  # this process is the worker's own mold
        mold.become_worker(options.slot, channel, Row(options.row), region_fds)
    if not mold.project.is_shared:
        channel.send(messages.LoadsAlone())
    else:
        project.freeze()
    _flush()  # what is buffered here would be written once more by every worker
    channel.send(messages.MoldReady(mold.project.config.to_json()))
    if not mold.project.is_whole:
        _leave(0)  # another takes its place
    mold.serve()


#: What is said of a project that does not load in time.
_HANGS: Final = "not loaded within boot_timeout: it hangs at {}"


def _boot(launch: Launch, options: argparse.Namespace, channel: Channel) -> Project:
    """Load the project; where that fails, or hangs for too long, tell the arbiter why and end."""

    def confess(module: str, place: str, stack: str) -> NoReturn:
        channel.send(messages.MoldFailed(project.stage(), module, _HANGS.format(place), messages.tail(stack)))
        _leave(EXIT_BOOT)

    hangs.watch(confess, options.stacks)
    try:
        _become_the_service(launch)
        process.die_with(options.arbiter)
        loaded = _load(launch, options.generation, alone=options.alone or options.slot is not None)
    except BootError as error:
        channel.send(error.as_message())
        _leave(EXIT_BOOT)
    hangs.end_watch(options.stacks)
    return loaded


def _load(launch: Launch, generation: int, *, alone: bool = False) -> Project:
    """Load the project. A child that its modules have forked, and that comes back here, ends: it is no mold."""
    mold = os.getpid()
    try:
        return project.load(launch, generation, alone=alone)
    finally:
        if os.getpid() != mold:
            process.end_child()


def _become_the_service(launch: Launch) -> None:
    """Be who serves, before any line of the project runs."""
    config = launch.config
    os.umask(config.umask)
    try:
        accounts.become(accounts.find(config.user, config.group))
    except (KeyError, OSError) as error:
        reason = f"cannot become user {config.user!r}, group {config.group!r}: {error}"
        raise BootError("start", "djworker", reason) from error


def _check(launch: Launch) -> int:
    """``runworkers --check``: everything that a mold does before it would fork."""

    def confess(module: str, place: str, stack: str) -> NoReturn:
        _leave(_tell_unfit(BootError(project.stage(), module, _HANGS.format(place), stack)))

    try:
        _become_the_service(launch)
        with hangs.limit(confess, launch.config.boot_timeout):
            loaded = _load(launch, 0)
    except BootError as error:
        return _tell_unfit(error)
    if loaded.config.check_migrations == "warn":
        checks.tell(forked_call.ask(checks.ask_for_migrations, checks.MIGRATIONS_WITHIN))
    return _judge(loaded, _probe_at_once(loaded))


def _probe_at_once(loaded: Project) -> probe.Transcript:
    """What a first start does beside its workers."""
    paths = loaded.config.probe
    if not paths:
        return probe.Transcript(0)

    def answer(write: forked_call.Write) -> None:
        probe.answer(loaded.app, _asked_of_a_copy(loaded, paths), (), write)

    asked = forked_call.begin(answer, PROBE_TIMEOUT)
    while asked.read():
        pass
    transcript = _transcript(asked, 0)
    if not loaded.is_shared:
        _ask_here(loaded, paths, (), transcript, asked.deadline, lambda: _leave(_judge(loaded, transcript)))
    return transcript


def _judge(loaded: Project, transcript: probe.Transcript) -> int:
    """Say what is answered badly, and whether the project is fit for all that; the exit code."""
    for question, (bad, text, stack) in transcript.as_message(()).answers.items():
        if bad and loaded.config.strict:
            return _tell_unfit(BootError("probe", question, text, stack))
        if bad and question not in messages.TOLD_BY_CHECKS:
            fields = {"question": question, "error": text, "traceback": stack}
            log.event(logger, logging.WARNING, "probe_failed", f"{question}: {text}", **fields)
    log.event(logger, logging.INFO, "check_passed", f"{loaded.title} is fit to serve")
    return 0


def _tell_unfit(error: BootError) -> int:
    text = f"does not boot ({error.stage}, {error.module}): {error.reason}"
    fields = {"stage": error.stage, "module": error.module, "traceback": error.traceback}
    log.event(logger, logging.ERROR, "check_failed", text, **fields)
    return EXIT_BOOT


def _leave(code: int) -> NoReturn:
    """End at once: a thread that the project left behind, which may be why we leave, would keep the process.

    The processes that it has begun end, too: one that nothing talks to any more would keep the terminal, or a job's pipe, open.
    """
    _flush()
    process.terminate_children()
    raw._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a full disk; closed, or None, by the project
            stream.flush()


def _keep_from_others(descriptors: Sequence[int]) -> None:
    """A program that a view starts (``os.system``) must hold no port after our end, and no line to the arbiter."""
    for fd in descriptors:
        os.set_inheritable(fd, False)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m djworker.mold.main")
    parser.add_argument(Flag.CHECK, action="store_true")
    parser.add_argument(Flag.ALONE, action="store_true")
    parser.add_argument(Flag.GENERATION, type=int, default=0)
    parser.add_argument(Flag.SLOT, type=int)
    parser.add_argument(Flag.ARBITER, type=int, default=0)
    parser.add_argument(Flag.CHANNEL, type=int, default=-1)
    parser.add_argument(Flag.ROW, type=int, default=-1)
    parser.add_argument(Flag.REGION, type=int, default=-1)
    parser.add_argument(Flag.STACKS, type=int, default=-1)
    parser.add_argument(Flag.LISTENERS, type=_numbers, default=())
    return parser.parse_args(arguments)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


if __name__ == "__main__":
    collector.hold()
    main(sys.argv[1:])

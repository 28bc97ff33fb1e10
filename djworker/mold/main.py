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
import os
import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from djworker import accounts, log, process
from djworker.ipc import messages
from djworker.ipc.channel import Channel
from djworker.ipc.contract import EXIT_BOOT, Flag, SettledQuestion
from djworker.ipc.launch import Launch
from djworker.ipc.scoreboard import Row
from djworker.mold import checks, forked_call, hangs, probe, probing, project, reporting, stages
from djworker.mold.mold import Mold, flush, leave
from djworker.mold.patches import forks, multiprocess, resolver
from djworker.mold.stages import BootError
from djworker.worker import collector, signal_handlers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djworker.worker.loaded import Project

#: A terminal sends these to every process of its group; here, only the arbiter says what to do.
_IGNORED: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(arguments: Sequence[str]) -> NoReturn:
    """Boot, report, fork."""
    process.open_standard_streams()
    process.make_room_for_title()
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
        leave(_check(launch))
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
    flush()  # what is buffered here would be written once more by every worker
    channel.send(messages.MoldReady(mold.project.config.to_json()))
    if not mold.project.is_whole:
        leave(0)  # another takes its place
    mold.serve()


#: What is said of a project that does not load in time.
_HANGS: Final = "not loaded within boot_timeout: it hangs at {}"


def _boot(launch: Launch, options: argparse.Namespace, channel: Channel) -> Project:
    """Load the project; where that fails, or hangs for too long, tell the arbiter why and end."""

    def confess(module: str, place: str, stack: str) -> NoReturn:
        channel.send(messages.MoldFailed(stages.current(), module, _HANGS.format(place), messages.tail(stack)))
        leave(EXIT_BOOT)

    hangs.watch(confess, options.stacks)
    try:
        _become_the_service(launch)
        process.die_with(options.arbiter)
        loaded = _load(launch, options.generation, alone=options.alone or options.slot is not None)
    except BootError as error:
        channel.send(error.as_message())
        leave(EXIT_BOOT)
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
        leave(_tell_unfit(BootError(stages.current(), module, _HANGS.format(place), stack)))

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
    asked = probing.begin(loaded, paths, ())
    while asked.read():
        pass
    transcript = probing.transcript_of(asked, 0)
    probing.ask_here(loaded, paths, (), transcript, asked.deadline, lambda: leave(_judge(loaded, transcript)))
    return transcript


def _judge(loaded: Project, transcript: probe.Transcript) -> int:
    """Say what is answered badly, and whether the project is fit for all that; the exit code."""
    for question, (bad, text, stack) in transcript.as_message(()).answers.items():
        if bad and loaded.config.strict:
            return _tell_unfit(BootError("probe", question, text, stack))
        if bad and question not in set(SettledQuestion):
            reporting.answered_badly(question, text, stack)
    reporting.fit(loaded.title)
    return 0


def _tell_unfit(error: BootError) -> int:
    reporting.unfit(error)
    return EXIT_BOOT


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

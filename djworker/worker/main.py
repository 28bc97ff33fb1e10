"""From fork to exit: makes a worker out of a copy of the mold."""

from __future__ import annotations

import atexit
import faulthandler
import logging
import posix as raw  # Logfire exchanges os._exit for what sends once more: exit handlers have done so, within their time
import signal
import sys
import traceback
from math import inf
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, NoReturn

import gevent

from djworker import log, process
from djworker.ipc import messages
from djworker.worker import collector, grpc_calls, renewal, signal_handlers
from djworker.worker.answers import Nothing
from djworker.worker.blockers import Blockers
from djworker.worker.metrics import WorkerMetrics
from djworker.worker.stalls import LASTING
from djworker.worker.watchdog import StallReports, Watchdog
from djworker.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djworker.ipc.channel import Channel
    from djworker.ipc.regions import Region
    from djworker.ipc.scoreboard import Row
    from djworker.worker.loaded import ForkGuard, Project

logger = logging.getLogger("djworker.worker")

#: Exit handlers of the project's and its libraries' have this long.
_EXIT_HANDLERS_LIMIT: Final = 2.0
_IGNORED: Final = (signal.SIGINT, signal.SIGHUP)


def run(  # noqa: PLR0913, PLR0917 - the composition root: everything meets here
    project: Project,
    channel: Channel,
    row: Row,
    listeners: Sequence[int],
    generation: int,
    slot: int,
    arbiter: int,
    guard: ForkGuard,
    region: Region | None = None,
) -> NoReturn:
    """[worker] Serve until retired, then leave the process.

    Args:
        project: what is served.
        channel: to the arbiter.
        row: of the scoreboard.
        listeners: the listening sockets' descriptors.
        generation: of the code.
        slot: which of the workers this is.
        arbiter: its process id.
        guard: looks after forks of the project's.
        region: for metrics; None where none are wanted.
    """
    code = 1
    try:
        process.die_with(arbiter)
        gevent.reinit()
        if project.is_shared:
            renewal.renew()
        grpc_calls.init()
        collector.release()
        channel.set_blocking(False)
        _prepare(project, generation, slot)
        worker = Worker(
            project.app,
            project.config,
            channel,
            row,
            listeners,
            project.notify,
            generation,
            slot,
            project.pools,
            project.retire_pools,
            project.balance.share(slot, project.config.workers),
            project.declared,
            project.insight,
        )
        if region is not None:
            worker.measure(WorkerMetrics(region, worker.server, project.count_pools))
            guard.also(region.close)
        _watch(worker, row, project)
        guard.also(worker.forsake)
        signal_handlers.begin(gevent.get_hub())
        guard.install()
        gevent.spawn(project.warm_pools)
        code = worker.run()
        project.close_pools()
    except BaseException as error:  # noqa: BLE001 - whatever it was, the arbiter is told and the process ends
        channel.send(messages.WorkerBootFailed(repr(error), messages.tail(traceback.format_exc())))
    finally:
        _leave(code)


def _watch(worker: Worker, row: Row, project: Project) -> None:
    timeout, threshold = project.config.timeout, project.config.stall_threshold
    insight, server = project.insight or Nothing(), worker.server
    blockers = Blockers(server.in_flight, insight)
    watchdog = Watchdog(row, timeout, blockers, server.in_flight, server.report_lost)
    if threshold and _tells_its_turns(blockers.hub.loop):
        lasting = LASTING if not timeout or timeout > LASTING else inf
        watchdog.stalls = StallReports(row, threshold, blockers, insight, worker.count_stall, lasting)
    watchdog.start()


def _tells_its_turns(loop: Any) -> bool:
    """Whether stalls can be found under this loop of gevent's: libev in C, the usual one.

    libuv has no number of its turns, and a loop that is written in Python would seem to run while it waits.
    """
    return loop.iteration >= 0 and not isinstance(type(loop).run, FunctionType)


def _prepare(project: Project, generation: int, slot: int) -> None:
    process.set_title(f"djworker: worker {slot} gen {generation} [{project.title}]")
    log.configure(project.config.log_level, project.config.log_format, "worker")
    _open_access_log(project.config.access_log)
    process.ignore_signals(_IGNORED)
    # The arbiter asks with SIGQUIT for the stacks of a worker that it is about to kill (the JVM's custom). faulthandler
    # answers from the signal handler itself, so that C code which holds the GIL shows too.
    faulthandler.register(signal.SIGQUIT, all_threads=True, chain=False)
    if not faulthandler.is_enabled():  # else the project has chosen a file for it
        faulthandler.enable()


def _open_access_log(path: str | None) -> None:
    """A service without an access log is better than none."""
    try:
        log.configure_access(path)
    except OSError as error:
        text = f"the access log {path} cannot be opened: {error.strerror}"
        log.event(logger, logging.ERROR, "access_log_lost", text, error=error.strerror)


def _leave(code: int) -> NoReturn:
    """End the process for certain: an exit handler that hangs, a thread that is not a daemon, must not keep it."""
    try:
        run_exit_handlers()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        raw._exit(code)  # noqa: SLF001 - os._exit as Python has it


def run_exit_handlers() -> None:
    """Run the project's, and its libraries'; what was begun while loading ends with them. One that hangs is left."""
    gevent.spawn(atexit._run_exitfuncs).join(timeout=_EXIT_HANDLERS_LIMIT)  # noqa: SLF001 - no public way to run them early

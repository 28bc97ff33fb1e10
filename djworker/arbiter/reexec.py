"""USR2: the arbiter replaces its own program, after a rehearsal in a child. Nothing else changes hands."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from djworker import log
from djworker.arbiter import snapshot
from djworker.arbiter.children import spawn
from djworker.arbiter.signal_queue import HANDLED
from djworker.conf import variables
from djworker.ipc import launch as launching
from djworker.ipc.contract import ARBITER

if TYPE_CHECKING:
    from djworker.arbiter.loop import Loop

logger = logging.getLogger("djworker.arbiter")

#: Seconds for a new interpreter to import the arbiter and read the state.
REHEARSAL_TIMEOUT: Final = 10.0


def reexec(loop: Loop) -> None:
    """Rehearse, then become the program that is on disk now. Returns only when that did not work, or must wait.

    A worker between fork and the mold's word about its pid is known by its channel alone; that is kept too, so a roll-out
    may be at any point.
    """
    if loop.fleet.ending:
        return
    try:
        _rehearse(loop)
    except (OSError, subprocess.SubprocessError) as error:
        _say_failed(error)
        return
    log.event(logger, logging.INFO, "reexec", "replacing the arbiter's program", pid=os.getpid())
    try:
        _become(loop)
    except OSError as error:
        _stay(loop, error)


def _command(*arguments: str) -> list[str]:
    flags = launching.Launch.from_environ(os.environ).python_flags
    return [sys.executable, *flags, "-m", ARBITER, *arguments]


def _rehearse(loop: Loop) -> None:
    """Whether the program on disk starts and understands our state; the loop stands still for that long."""
    environ = {**os.environ, variables.ADOPT: snapshot.take(loop)}
    pid = spawn(_command("--rehearse"), environ, [])
    deadline = time.monotonic() + REHEARSAL_TIMEOUT
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if loop.status is not None:
            loop.status.beat()
        if done:
            if status != 0:
                raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), "rehearsal")
            return
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise subprocess.TimeoutExpired("rehearsal", REHEARSAL_TIMEOUT)


def _say_failed(error: Exception) -> None:
    text = f"the new program does not work, this one goes on: {error}"
    log.event(logger, logging.ERROR, "reexec_failed", text, error=str(error))


def _become(loop: Loop) -> None:
    # A signal between the exec and the new program's handlers would kill us; blocked, it waits. One that came during the
    # rehearsal has been noted already, and travels with the state.
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    environ = {**os.environ, variables.ADOPT: snapshot.take(loop)}
    for fd in snapshot.descriptors(loop):
        os.set_inheritable(fd, True)
    if loop.control is not None:
        loop.control.excuse(
            "the arbiter replaces its own program (USR2); a reload goes on, and status tells how it ends"
        )
    sys.stderr.flush()
    os.execve(sys.executable, _command(), environ)  # noqa: S606 - ourselves, without a shell


def _stay(loop: Loop, error: OSError) -> None:
    """The exec was refused after all (the state has outgrown the environment, the interpreter is gone)."""
    for fd in snapshot.descriptors(loop):
        os.set_inheritable(fd, False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    _say_failed(error)

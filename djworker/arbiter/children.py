"""The processes behind the fleet's handles: pids, channels, and the system calls that start and end them."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from djworker import launch as launching
from djworker import messages, posix
from djworker.arbiter.signals import HANDLED
from djworker.channel import Channel
from djworker.scoreboard import Gauge, Phase, Scoreboard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djworker.arbiter.commands import SpawnWorker
    from djworker.arbiter.listeners import Listener
    from djworker.launch import Launch

Kind = Literal["mold", "worker", "helper"]
Key = tuple[Kind, int]

_NANOSECONDS = 1_000_000_000
#: The signals that the arbiter handles itself start every child with their default meaning.
_RESET = (*HANDLED, signal.SIGPIPE)


@dataclass(slots=True)
class Child:
    """[arbiter] A process of ours. ``pid`` is 0 until the mold has said whom it forked."""

    key: Key
    pid: int = 0
    channel: Channel | None = None
    slot: int = -1
    #: A signal that came before the pid was known.
    doomed: bool = False


@dataclass(slots=True)
class Children:
    """[arbiter] All processes of ours, by what they are and by pid."""

    launch: Launch
    listeners: list[Listener]
    scoreboard: Scoreboard
    subreaper: bool
    by_key: dict[Key, Child] = field(default_factory=dict)
    #: Reaped before the mold told us that they were ours.
    unclaimed: dict[int, int] = field(default_factory=dict)

    # -- looking ------------------------------------------------------------------------------------------------------

    def by_pid(self, pid: int) -> Child | None:
        """Ours, or somebody's orphan that we inherited as PID 1."""
        return next((child for child in self.by_key.values() if child.pid == pid), None)

    def workers(self) -> list[Child]:
        """Children that are workers."""
        return [child for child in self.by_key.values() if child.key[0] == "worker"]

    # -- starting -----------------------------------------------------------------------------------------------------

    def boot_mold(self, generation: int) -> Child:
        """A fresh interpreter that loads the project, patched from its first line on.

        Raises:
            OSError: no process, no descriptors, or the interpreter is gone (an environment that is being rebuilt).
        """
        return self._start(("mold", generation), "djworker.worker.mold", ["--generation", str(generation)])

    def start_reloader(self) -> Child:
        """The process that watches the project's files, in development."""
        return self._start(("helper", 0), "djworker.worker.reloader", [])

    def spawn_worker(self, command: SpawnWorker) -> Child:
        """Have the mold fork; without a subreaper, boot a mold of its own that becomes the worker.

        Raises:
            OSError: as for ``boot_mold``.
        """
        self._clear_row(command.slot, command.generation)
        key: Key = ("worker", command.worker_id)
        if not self.subreaper:
            arguments = ["--generation", str(command.generation), "--slot", str(command.slot)]
            child = self._start(key, "djworker.worker.mold", arguments)
            child.slot = command.slot
            return child
        ours, theirs = Channel.pair()
        ours.set_blocking(False)
        mold = self.by_key["mold", command.generation]
        request = messages.SpawnWorker(command.worker_id, command.slot)
        if mold.channel is not None:
            mold.channel.send(request, [theirs.fileno()])
        theirs.close()
        child = self.by_key[key] = Child(key, channel=ours, slot=command.slot)
        return child

    def _clear_row(self, slot: int, generation: int) -> None:
        row = self.scoreboard.row(slot)
        row.clear()
        row[Gauge.GENERATION] = generation
        row[Gauge.PHASE] = Phase.STARTING
        row[Gauge.BEAT] = time.monotonic_ns()

    def _start(self, key: Key, module: str, arguments: Sequence[str]) -> Child:
        ours, theirs = Channel.pair()
        ours.set_blocking(False)
        inherited = [theirs.fileno(), self.scoreboard.fileno(), *(item.sock.fileno() for item in self.listeners)]
        command = [
            *(sys.executable, *self.launch.python_flags, "-m", module, *arguments),
            *("--arbiter", str(os.getpid())),
            *("--channel", str(theirs.fileno()), "--scoreboard", str(self.scoreboard.fileno())),
            *("--listeners", ",".join(str(item.sock.fileno()) for item in self.listeners)),
        ]
        environ = {**os.environ, launching.VARIABLE: self.launch.to_json()}
        try:
            child = Child(key, spawn(command, environ, inherited), ours)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self.by_key[key] = child
        return child

    # -- ending -------------------------------------------------------------------------------------------------------

    def kill(self, key: Key) -> None:
        """SIGKILL; as soon as its pid is known, if it is not yet."""
        child = self.by_key.get(key)
        if child is None:
            return
        child.doomed = True
        if child.pid:
            posix.kill(child.pid, signal.SIGKILL)

    def hang_up(self, key: Key) -> None:
        """Close its channel: it reads EOF and leaves."""
        child = self.by_key.get(key)
        if child is not None and child.channel is not None:
            child.channel.close()
            child.channel = None

    def claim(self, key: Key, pid: int) -> int | None:
        """Note the pid of a worker that the mold forked; its exit status when it is dead already."""
        status = self.unclaimed.pop(pid, None)  # nobody else's, even when the child is buried already
        child = self.by_key.get(key)
        if child is None:
            return None
        child.pid = pid
        if child.doomed:
            posix.kill(pid, signal.SIGKILL)
        return status

    def learn_pid(self, child: Child) -> int | None:
        """A worker whose mold died before it told us the pid has written it on the scoreboard.

        Returns:
            Its exit status when it is dead already.
        """
        pid = self.scoreboard.row(child.slot)[Gauge.PID] if not child.pid and child.slot >= 0 else 0
        return self.claim(child.key, pid) if pid else None

    def keep_unclaimed(self, pid: int, status: int) -> None:
        """A process died that is not known; perhaps a worker whose pid the mold has yet to tell."""
        if any(not child.pid for child in self.by_key.values()):
            self.unclaimed[pid] = status
        else:
            self.unclaimed.clear()

    def forget(self, key: Key) -> None:
        """It is dead and reaped."""
        child = self.by_key.pop(key, None)
        if child is None:
            return
        if child.channel is not None:
            child.channel.close()
        if child.slot >= 0:
            self.scoreboard.row(child.slot).clear()

    # -- watching -----------------------------------------------------------------------------------------------------

    def beat_of(self, worker_id: int) -> float:
        """When its hub last turned, in seconds of the monotonic clock."""
        child = self.by_key.get(("worker", worker_id))
        if child is None or child.slot < 0:
            return 0.0
        return self.scoreboard.row(child.slot)[Gauge.BEAT] / _NANOSECONDS


def spawn(command: list[str], environ: dict[str, str], inherited: Sequence[int]) -> int:
    """Start a process that inherits these descriptors and no others. Single-threaded, so nobody else can fork meanwhile."""
    for fd in inherited:
        os.set_inheritable(fd, True)
    try:
        return os.posix_spawn(command[0], command, environ, setsigmask=(), setsigdef=_RESET)
    finally:
        for fd in inherited:
            os.set_inheritable(fd, False)

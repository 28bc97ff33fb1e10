"""The processes behind the fleet's handles: pids, channels, and the system calls that start and end them."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Final

from djworker import accounts, process
from djworker.arbiter.child import Child, Key
from djworker.arbiter.intake import MessageRefusedError
from djworker.arbiter.signal_queue import HANDLED
from djworker.conf import variables
from djworker.ipc import in_flight, messages
from djworker.ipc.channel import Channel
from djworker.ipc.contract import MOLD, Flag
from djworker.ipc.scoreboard import Gauge, Phase, Row
from djworker.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from djworker.arbiter.commands import ForkWorker
    from djworker.arbiter.listeners import Listener
    from djworker.arbiter.status import StatusService
    from djworker.ipc.launch import Launch

#: The signals that the arbiter handles itself start every child with their default meaning.
_RESET: Final = (*HANDLED, signal.SIGPIPE)


@dataclass(slots=True)
class Children:
    """[arbiter] All processes of ours, by what they are and by pid."""

    launch: Launch
    listeners: list[Listener]
    subreaper: bool
    by_key: dict[Key, Child] = field(default_factory=dict)
    #: Generations whose workers load the project by themselves.
    alone: set[int] = field(default_factory=set)
    #: When a spare worker of such a generation must have loaded it.
    loading: dict[int, float] = field(default_factory=dict)
    #: Reaped before the mold told us that they were ours.
    unclaimed: dict[int, int] = field(default_factory=dict)
    #: Where the status process is wanted.
    status: StatusService | None = None
    #: Where control clients are answered; empty where they are not.
    control_address: str = ""
    #: The user that molds and workers run as; 0 where that proves nothing.
    _uid: int = field(init=False)

    def __post_init__(self) -> None:
        config = self.launch.config
        account = accounts.service_account(config.user, config.group)
        self._uid = account.uid if account is not None else 0

    # -- looking ------------------------------------------------------------------------------------------------------

    def by_pid(self, pid: int) -> Child | None:
        """Ours; None for another's orphan that we inherited as PID 1."""
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
        stacks = os.memfd_create("stacks") if hasattr(os, "memfd_create") else -1
        arguments = [Flag.GENERATION, str(generation), Flag.STACKS, str(stacks)]
        extra = [stacks] if stacks >= 0 else []
        try:
            child = self._start(("mold", generation), MOLD, arguments, extra)
        except OSError:
            for fd in extra:
                os.close(fd)
            raise
        child.stacks = stacks
        return child

    def start_status(
        self, key: Key, arguments: Sequence[str], regions: Sequence[int], listeners: Sequence[Listener]
    ) -> Child:
        """The process that tells how the service is. Raises OSError as ``boot_mold`` does."""
        return self._start(key, "djworker.status", arguments, regions, listeners)

    def start_reloader(self) -> Child:
        """The process that watches the project's files, in development."""
        return self._start(("helper", 0), "djworker.reloader", [])

    def start_spare(self, generation: int, deadline: float) -> Child:
        """A process that loads the project, and is a worker when one is wanted. Raises OSError as ``boot_mold`` does.

        Args:
            generation: whose code it loads.
            deadline: seconds of the monotonic clock, by which it has loaded it.
        """
        arguments = [Flag.GENERATION, str(generation), Flag.ALONE]
        child = self._start(("mold", generation), MOLD, arguments)
        self.loading[generation] = deadline
        return child

    def spare(self, generation: int) -> Child | None:
        """A process that has loaded this generation, of which each worker loads it by itself."""
        if generation not in self.alone or generation in self.loading:
            return None
        return self.by_key.get(("mold", generation))

    def spawn_worker(self, command: ForkWorker) -> Child:
        """Have the mold fork, or the spare become it; else boot a mold of its own that does: so it is without a subreaper, too.

        Raises:
            OSError: as for ``boot_mold``.
        """
        key: Key = ("worker", command.worker_id)
        region = self.status.region_of(command.slot, self).fileno() if self.status is not None else -1
        row = _new_row(command.generation)
        try:
            child = self._spawn_by(command)(key, command, [row.fileno(), *([region] if region >= 0 else [])])
        except OSError:
            row.close()
            raise
        child.slot, child.row = command.slot, row
        return child

    def _spawn_by(self, command: ForkWorker) -> Callable[[Key, ForkWorker, Sequence[int]], Child]:
        if self.spare(command.generation) is not None:
            return self._hand_over
        return self._spawn if self.subreaper and command.generation not in self.alone else self._boot_worker

    def _hand_over(self, key: Key, command: ForkWorker, shared: Sequence[int]) -> Child:
        """What was the spare is the worker."""
        spare = self.by_key["mold", command.generation]
        child = self._spawn(key, command, shared)
        child.pid = spare.pid
        self.hang_up(spare.key)
        self.forget(spare.key)
        return child

    def _spawn(self, key: Key, command: ForkWorker, shared: Sequence[int]) -> Child:
        ours, theirs = Channel.pair()
        ours.set_blocking(False)
        mold = self.by_key["mold", command.generation]
        request = messages.SpawnWorker(command.worker_id, command.slot)
        if mold.channel is not None:
            mold.channel.send(request, [theirs.fileno(), *shared])
        theirs.close()
        child = self.by_key[key] = Child(key, channel=ours)
        return child

    def _boot_worker(self, key: Key, command: ForkWorker, shared: Sequence[int]) -> Child:
        names = zip((Flag.ROW, Flag.REGION), map(str, shared), strict=False)
        arguments = [
            Flag.GENERATION,
            str(command.generation),
            Flag.SLOT,
            str(command.slot),
            *chain.from_iterable(names),
        ]
        return self._start(key, MOLD, arguments, shared)

    def _start(
        self,
        key: Key,
        module: str,
        arguments: Sequence[str],
        extra: Sequence[int] = (),
        listeners: Sequence[Listener] | None = None,
    ) -> Child:
        """Start an interpreter. listeners: those that it gets; None for the service's."""
        ours, theirs = Channel.pair()
        ours.set_blocking(False)
        sockets = [item.sock.fileno() for item in (self.listeners if listeners is None else listeners)]
        inherited = [theirs.fileno(), *extra, *sockets]
        command = [
            *(sys.executable, *self.launch.python_flags, "-m", module, *arguments),
            *(Flag.ARBITER, str(os.getpid())),
            *(Flag.CHANNEL, str(theirs.fileno())),
            *(Flag.LISTENERS, ",".join(map(str, sockets))),
        ]
        environ = {**os.environ, variables.SERVER: self.control_address}
        if key[0] != "helper":
            environ = self.launch.for_mold(environ)
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
        if child.pid and not child.reaped:
            process.kill(child.pid, signal.SIGKILL)

    def hang_up(self, key: Key) -> None:
        """Close its channel: it reads EOF and leaves."""
        child = self.by_key.get(key)
        if child is not None and child.channel is not None:
            child.channel.close()
            child.channel = None

    def claim(self, key: Key, pid: int) -> int | None:
        """Note the pid of a worker, told by it or by its mold; its exit status when it is dead already.

        Raises:
            MessageRefusedError: it is another's, or no child of ours at all: a signal there would hit a stranger.
        """
        child = self.by_key.get(key)
        if child is None:
            return self.unclaimed.pop(pid, None)  # ours, even when the child is buried already
        if child.pid:
            if child.pid != pid:
                raise MessageRefusedError(f"{_title(key)} is process {child.pid}, not {pid}")
            return None
        if self.by_pid(pid) is not None or not self._is_ours(pid):
            raise MessageRefusedError(f"process {pid} is not {_title(key)}")
        child.pid = pid
        status = self.unclaimed.pop(pid, None)
        if child.doomed and status is None:
            process.kill(pid, signal.SIGKILL)
        return status

    def _is_ours(self, pid: int) -> bool:
        """What the kernel says: reaped by us, or a child that runs as the workers do. An orphan may be another's."""
        if pid in self.unclaimed:
            return True
        return process.is_our_child(pid) and (not self._uid or process.runs_as(pid, self._uid))

    def learn_pid(self, child: Child) -> int | None:
        """A worker whose mold died before it told us the pid has written it on the scoreboard.

        Returns:
            Its exit status when it is dead already.
        """
        pid = child.reads(Gauge.PID) if not child.pid else 0
        try:
            return self.claim(child.key, pid) if pid > 0 else None
        except MessageRefusedError:  # it has written another's; it stays nameless, and its deadline ends it
            return None

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
        child.close()

    # -- watching -----------------------------------------------------------------------------------------------------

    def beat_of(self, worker_id: int) -> float:
        """When its hub last turned, in seconds of the monotonic clock; never in the future, which would spare it for ever."""
        child = self.by_key.get(("worker", worker_id))
        return min(child.reads(Gauge.BEAT) / NANOSECONDS, time.monotonic()) if child is not None else 0.0

    def stack_of(self, generation: int) -> str:
        """What a mold that hangs has written; nothing where it has not, or an earlier program of ours has asked."""
        child = self.by_key.get(("mold", generation))
        if child is None or child.stacks < 0:
            return ""
        return os.pread(child.stacks, messages.TRACEBACK_LIMIT, 0).decode(errors="replace")


def _title(key: Key) -> str:
    return f"{key[0]} {key[1]}"


def _new_row(generation: int) -> Row:
    row = Row.create(in_flight.SIZE)
    row[Gauge.GENERATION] = generation
    row[Gauge.PHASE] = Phase.STARTING
    row[Gauge.BEAT] = time.monotonic_ns()
    return row


def spawn(command: list[str], environ: dict[str, str], inherited: Sequence[int]) -> int:
    """Start a process that inherits these descriptors and no others. Single-threaded, so no other fork can come in between.

    Args:
        command: the program's path, and its words.
        environ: all of its environment.
        inherited: the descriptors, which keep their numbers.

    Returns:
        Its process id.

    Raises:
        OSError: there is no process, no descriptor or no memory for it.
    """
    for fd in inherited:
        os.set_inheritable(fd, True)
    try:
        return os.posix_spawn(command[0], command, environ, setsigmask=(), setsigdef=_RESET)
    finally:
        for fd in inherited:
            os.set_inheritable(fd, False)

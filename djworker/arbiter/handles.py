"""The arbiter's handles on molds and workers, and the one door through which each changes its state."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from itertools import chain
from math import inf
from typing import TYPE_CHECKING, Final

from djworker.arbiter.timing import WATCHDOG_MARGIN
from djworker.bug import Bug
from djworker.ipc.scoreboard import SLOTS, free_slot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djworker.arbiter.probing import Answers, Failure


@dataclass(frozen=True, slots=True)
class Policy:
    """What the configuration asks of a fleet; times in seconds."""

    workers: int
    timeout: float
    boot_timeout: float
    graceful_timeout: float
    #: Whether a generation is asked for answers before it is trusted, and whether bad ones keep the first one out, too.
    probe: bool = False
    strict: bool = False
    #: Between the word to stop and the stop; requests are served meanwhile.
    shutdown_delay: float = 0.0
    #: Where the number of workers follows the load: how many there may be. ``workers`` is the least then.
    most_workers: int = 0
    #: For how long the first worker of a new generation is watched before another comes; 0 for not at all.
    canary: float = 0.0

    @property
    def heartbeat_timeout(self) -> float:
        """Seconds for which a silent worker is left alone; 0 in the settings means for ever."""
        return self.timeout + WATCHDOG_MARGIN if self.timeout else inf


class MoldState(Enum):
    """BOOTING → MEASURING → PROBING → READY → RETIRING → gone; KILLED when it did not boot in time.

    MEASURING: it is loaded, and the generation in force is asked for the answers that it is to be measured by. PROBING: it is
    asked itself. Both are left out where there is nothing to ask, the first where no worker is there to be asked.
    """

    BOOTING = "booting"
    MEASURING = "measuring"
    PROBING = "probing"
    READY = "ready"
    RETIRING = "retiring"
    KILLED = "killed"


class WorkerState(Enum):
    """STARTING → READY → DRAINING → gone; KILLED when it missed the deadline of its state."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    KILLED = "killed"


_MOLD_MOVES: Final = {
    MoldState.BOOTING: {MoldState.MEASURING, MoldState.PROBING, MoldState.READY, MoldState.KILLED},
    MoldState.MEASURING: {MoldState.PROBING, MoldState.KILLED},
    MoldState.PROBING: {MoldState.READY, MoldState.RETIRING, MoldState.KILLED},
    MoldState.READY: {MoldState.RETIRING},
    MoldState.RETIRING: {MoldState.RETIRING},
    MoldState.KILLED: {MoldState.KILLED},
}
#: It is not in force yet, and may be one day.
_COMING: Final = (MoldState.BOOTING, MoldState.MEASURING, MoldState.PROBING)
_WORKER_MOVES: Final = {
    WorkerState.STARTING: {WorkerState.READY, WorkerState.DRAINING, WorkerState.KILLED},
    WorkerState.READY: {WorkerState.DRAINING, WorkerState.KILLED},
    WorkerState.DRAINING: {WorkerState.DRAINING, WorkerState.KILLED},
    WorkerState.KILLED: {WorkerState.KILLED},
}


@dataclass(slots=True)
class MoldHandle:
    """[arbiter] A mold, seen from outside."""

    generation: int
    state: MoldState
    deadline: float
    policy: Policy | None = None
    #: It hangs, and has been asked where.
    questioned: bool = False
    #: Why it is given up, as far as it is known.
    failure: Failure | None = None
    #: What it is to be measured by, and what has answered so; nothing where there was no worker to ask.
    measure: Answers | None = None
    measured_by: int = 0

    @property
    def coming(self) -> bool:
        """Whether it is on its way to be in force."""
        return self.state in _COMING

    def become(self, state: MoldState, deadline: float) -> None:
        """Change state; every state has its own deadline."""
        if state not in _MOLD_MOVES[self.state]:
            msg = f"bug: a mold cannot go from {self.state.value} to {state.value}"
            raise Bug(msg)
        self.state, self.deadline = state, deadline

    def forgive(self, seconds: float) -> None:
        """So much time did not pass for it."""
        self.deadline += seconds


@dataclass(slots=True)
class WorkerHandle:
    """[arbiter] A worker, seen from outside."""

    worker_id: int
    slot: int
    generation: int
    state: WorkerState
    deadline: float
    ready_at: float = inf
    proven_at: float = inf
    proven: bool = False
    recycle: bool = False
    #: It accepts no more, as it says itself.
    closed: bool = False
    #: The end of its grace; infinity while it has not been asked to leave.
    drain_by: float = inf

    def become(self, state: WorkerState, deadline: float) -> None:
        """Change state; every state has its own deadline."""
        if state not in _WORKER_MOVES[self.state]:
            msg = f"bug: a worker cannot go from {self.state.value} to {state.value}"
            raise Bug(msg)
        self.state, self.deadline = state, deadline

    def drain(self, until: float) -> None:
        """Ask it to leave; a second request may only bring the end nearer. It must go on turning meanwhile."""
        self.drain_by = min(self.drain_by, until)
        self.become(WorkerState.DRAINING, min(self.deadline, self.drain_by))

    @property
    def beats(self) -> bool:
        """Whether its hub turns, or should; while it boots it may do what it likes, up to its deadline."""
        return self.state in (WorkerState.READY, WorkerState.DRAINING) and self.ready_at < inf

    def beat(self, heartbeat_due: float) -> None:
        """Its hub has turned, which buys time, but none beyond the end of its grace."""
        self.deadline = min(self.drain_by, max(self.deadline, heartbeat_due))

    def forgive(self, seconds: float) -> None:
        """So much time did not pass for it."""
        self.deadline += seconds
        self.drain_by += seconds

    @property
    def leaving(self) -> bool:
        """Whether it was told to go: it is not missed, whatever ends it."""
        return self.drain_by < inf

    def overdue_reason(self, now: float) -> str:
        """Why it is killed at its deadline."""
        if self.state is WorkerState.KILLED:
            return "survived SIGKILL"
        if now >= self.drain_by:
            return "graceful_timeout"
        return "timeout" if self.beats else "boot_timeout"


@dataclass(slots=True)
class ProcessTable:
    """[arbiter] All molds and workers that exist as processes. Gauges are lengths of these collections."""

    molds: dict[int, MoldHandle] = field(default_factory=dict)
    workers: dict[int, WorkerHandle] = field(default_factory=dict)
    last_generation: int = 0
    last_worker: int = 0

    def __iter__(self) -> Iterator[MoldHandle | WorkerHandle]:
        return chain(self.molds.values(), self.workers.values())

    def next_generation(self) -> int:
        """A number that no generation had."""
        self.last_generation += 1
        return self.last_generation

    def new_worker(self, generation: int, deadline: float) -> WorkerHandle:
        """A handle on a worker that is about to be forked."""
        self.last_worker += 1
        slot = free_slot({w.slot for w in self.workers.values()})
        worker = WorkerHandle(self.last_worker, slot, generation, WorkerState.STARTING, deadline)
        self.workers[worker.worker_id] = worker
        return worker

    def has_slot(self) -> bool:
        """Whether one more worker finds room on the scoreboard, those included that drain."""
        return len(self.workers) < SLOTS

    def booting_molds(self) -> list[MoldHandle]:
        """Molds that load code now, or are asked whether it is fit."""
        return [m for m in self.molds.values() if m.coming]

    def mute_molds(self) -> list[MoldHandle]:
        """Molds that hang, were asked where, and have not said."""
        return [m for m in self.molds.values() if m.state is MoldState.BOOTING and m.questioned and m.failure is None]

    def older_mold(self, generation: int) -> MoldHandle | None:
        """The youngest warm mold from before *generation*: what there is to roll back to."""
        return next(reversed(self.older_molds(generation)), None)

    def older_molds(self, generation: int) -> list[MoldHandle]:
        """All warm molds from before *generation*, oldest first."""
        warm = [m for m in self.molds.values() if m.state is MoldState.READY and m.generation < generation]
        return sorted(warm, key=lambda m: m.generation)

    def _in(self, *states: WorkerState) -> list[WorkerHandle]:
        return [w for w in self.workers.values() if w.state in states]

    def alive(self) -> list[WorkerHandle]:
        """Workers that serve or will."""
        return self._in(WorkerState.STARTING, WorkerState.READY)

    def starting(self) -> list[WorkerHandle]:
        """Workers between fork and ready."""
        return self._in(WorkerState.STARTING)

    def draining(self) -> list[WorkerHandle]:
        """Workers that finish what runs."""
        return self._in(WorkerState.DRAINING)

    def half_closed(self, generation: int) -> list[WorkerHandle]:
        """Workers of other generations that were asked to leave, and may accept one more connection until they have read that."""
        return [w for w in self.draining() if w.generation != generation and not w.closed]

    def ready(self, generation: int | None = None) -> list[WorkerHandle]:
        """Workers that accept, of one generation or of all."""
        return [w for w in self._in(WorkerState.READY) if generation in (None, w.generation)]

    def beating(self) -> list[WorkerHandle]:
        """Workers whose hub must turn."""
        return [worker for worker in self.workers.values() if worker.beats]

    def outdated(self, generation: int) -> list[WorkerHandle]:
        """Workers that are to be replaced: of another generation than *generation*, or by their own wish."""
        return [worker for worker in self.alive() if worker.generation != generation or worker.recycle]

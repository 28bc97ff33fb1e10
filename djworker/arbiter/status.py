"""The status process's other side: the memory that it reads, its sockets, and how it is started again when it ends."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

from djworker import process
from djworker.arbiter.handles import WorkerState
from djworker.arbiter.listeners import Listener, close_all, open_listeners
from djworker.conf.address import Address
from djworker.ipc import messages
from djworker.ipc.board import Board, SlotView, Word, WorkerSlotState
from djworker.ipc.contract import Flag
from djworker.ipc.metrics import (
    ARBITER_CPU,
    GENERATION,
    PROCESS_PSS,
    RELOADS,
    RESTARTS,
    WANTED,
    WORKERS,
)
from djworker.ipc.regions import Region, Writer
from djworker.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djworker.arbiter.child import Child, Key
    from djworker.arbiter.fleet import Fleet
    from djworker.conf.table import Config

#: Of the helpers: the reloader is 0.
STATUS_KEY: Final[Key] = ("helper", 1)
#: Seconds between two beats, while nothing else has the loop turn.
BEAT: Final = 1.0
#: Seconds between two looks at memory; one takes a millisecond for each hundred MiB.
LOOK: Final = 10.0
#: Seconds until the status process is started again, for the first time; twice as many each further time.
FIRST_RETRY: Final = 0.1
LAST_RETRY: Final = 30.0
#: Seconds after which it is one that works.
STEADY: Final = 10.0
#: Mebibytes, connections and seconds are its own; the queue of its sockets is short, for its clients ask again.
BACKLOG: Final = 128
_STATES: Final = {
    WorkerState.STARTING: WorkerSlotState.STARTING,
    WorkerState.READY: WorkerSlotState.READY,
    WorkerState.DRAINING: WorkerSlotState.DRAINING,
    WorkerState.KILLED: WorkerSlotState.KILLED,
}
#: What a worker may ask to be replaced for. It is the worker's word, which is no label.
CAUSES: Final = frozenset({"max_requests", "max_memory", "max_lifetime", "SIGTERM"})
_RESULTS: Final = {"reload_done": "done", "reload_failed": "failed"}


class Processes(Protocol):
    """The arbiter's processes: ``Children`` has them."""

    by_key: dict[Key, Child]

    def start_status(
        self, key: Key, arguments: Sequence[str], regions: Sequence[int], listeners: Sequence[Listener]
    ) -> Child:
        """Start the status process. Raises OSError."""

    def kill(self, key: Key) -> None:
        """End a process at once."""


@dataclass(slots=True)
class StatusService:
    """[arbiter] What the status process needs, whether it runs or not. All of it survives the exec of USR2."""

    listeners: list[Listener]
    board_region: Region
    own_region: Region
    #: By slot; made with its first worker, and kept.
    regions: dict[int, Region] = field(default_factory=dict)
    _board: Board = field(init=False)
    _own: Writer = field(init=False)
    _start_at: float = 0.0
    _started_at: float = -inf
    _failures: int = 0
    _beat_at: float = 0.0
    _look_at: float = 0.0

    def __post_init__(self) -> None:
        self._board = Board(self.board_region, writable=True)
        self._own = Writer(self.own_region)
        for cause in (
            *CAUSES,
            "asked",
            "timeout",
            "boot_timeout",
            "crash",
            "reload",
            "scaled",
        ):  # a rate needs a zero to begin with
            self._own.add(RESTARTS, 0, (cause,))
        for result in _RESULTS.values():
            self._own.add(RELOADS, 0, (result,))

    @classmethod
    def open(cls, config: Config) -> StatusService:
        """Listen on ``status_bind``.

        Raises:
            ListenError: an address cannot be had.
            OSError: no descriptors.
        """
        addresses = [Address.parse(text) for text in config.status_bind]
        listeners = open_listeners(addresses, BACKLOG, config.socket_mode, None)
        return cls(listeners, Region.create("board"), Region.create("arbiter"))

    # -- the memory ---------------------------------------------------------------------------------------------------

    def region_of(self, slot: int, children: Processes) -> Region:
        """The region of a slot, which the status process is told of when it is new.

        Raises:
            OSError: no descriptors.
        """
        region = self.regions.get(slot)
        if region is None:
            region = self.regions[slot] = Region.create(f"slot-{slot}")
            self._tell_of(slot, region, children)
        return region

    def _tell_of(self, slot: int, region: Region, children: Processes) -> None:
        child = children.by_key.get(STATUS_KEY)
        if child is None or child.channel is None:
            return
        fd = region.read_only()
        heard = child.channel.send(messages.RegionMade(slot), [fd])
        os.close(fd)
        if not heard:  # it is stuck; the next one gets them all
            children.kill(STATUS_KEY)

    def descriptors(self) -> list[int]:
        """What must stay open across an exec."""
        regions = (self.board_region, self.own_region, *self.regions.values())
        return [*(item.sock.fileno() for item in self.listeners), *(region.fileno() for region in regions)]

    # -- the process --------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When to be called again, on the monotonic clock."""
        return min(self._start_at, self._beat_at)

    def is_due(self, now: float) -> bool:
        """Whether the process is to be started."""
        return now >= self._start_at

    def start(self, children: Processes, now: float) -> Child:
        """Start it.

        Raises:
            OSError: no process, no descriptors.
        """
        self._failures = 0 if now - self._started_at > STEADY else self._failures + 1
        self._start_at, self._started_at = inf, now
        opened: list[int] = []
        try:
            board, own = self._opened(self.board_region, opened), self._opened(self.own_region, opened)
            pairs = [f"{slot}:{self._opened(region, opened)}" for slot, region in self.regions.items()]
            arguments = [Flag.BOARD, str(board), Flag.OWN, str(own), Flag.REGIONS, ",".join(pairs)]
            return children.start_status(STATUS_KEY, arguments, opened, self.listeners)
        except OSError:
            self.ended(now)
            raise
        finally:
            for fd in opened:
                os.close(fd)

    @staticmethod
    def _opened(region: Region, opened: list[int]) -> int:
        opened.append(region.read_only())
        return opened[-1]

    def ended(self, now: float) -> float:
        """It has ended, or could not be started; the seconds until it is started again."""
        steady = now - self._started_at > STEADY
        pause = FIRST_RETRY if steady else min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(self._failures, 10))
        self._start_at = now + pause
        return pause

    def adopted(self) -> None:
        """The process runs already: an earlier program of ours has started it."""
        self._start_at, self._started_at = inf, time.monotonic()

    def close(self) -> None:
        """Let go of the sockets; it is the end."""
        close_all(self.listeners)

    # -- what is told -------------------------------------------------------------------------------------------------

    def beat(self) -> None:
        """The loop turns, or something that it waits for goes on."""
        self._board[Word.BEAT] = time.monotonic_ns()
        self._beat_at = time.monotonic() + BEAT

    def tell(self, fleet: Fleet, children: Processes) -> None:
        """How the service is."""
        self._board[Word.STOPPING] = fleet.ending
        workers = fleet.processes.workers.values()
        self._board.tell(
            {
                worker.slot: SlotView(_STATES[worker.state], _pid_of(children, worker.worker_id), worker.generation)
                for worker in workers
            }
        )
        states = Counter(worker.state for worker in workers)
        for state in WorkerState:
            self._own.set(WORKERS, states[state], (state.value,))
        self._own.set(WANTED, fleet.target)
        self._own.set(GENERATION, fleet.current)
        self._own.set(ARBITER_CPU, int(time.process_time() * NANOSECONDS))
        self.beat()
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK
            self._own.set(PROCESS_PSS, process.pss_bytes(), ("arbiter",))
            molds = [child.pid for child in children.by_key.values() if child.key[0] == "mold" and child.pid]
            self._own.set(PROCESS_PSS, sum(map(process.pss_bytes, molds)), ("mold",))

    def worker_gone(self, cause: str) -> None:
        """A worker has ended that is to be replaced."""
        self._own.add(RESTARTS, 1, (cause,))

    def announced(self, event: str) -> None:
        """Count what became of a reload."""
        if event in _RESULTS:
            self._own.add(RELOADS, 1, (_RESULTS[event],))


def _pid_of(children: Processes, worker_id: int) -> int:
    child = children.by_key.get(("worker", worker_id))
    return child.pid if child is not None else 0

"""What a worker tells of itself in its region of shared memory: its requests as they end, all else at each beat."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import gevent

from djworker import process
from djworker.http.phases import ConnectionPhase
from djworker.http.recorder import Recorder
from djworker.ipc import metrics
from djworker.ipc.metrics import LAG_BOUNDS
from djworker.ipc.regions import Writer
from djworker.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from djworker.http.server import Server
    from djworker.ipc.regions import Region

__all__ = ["WorkerMetrics"]

#: Seconds between two looks at how late the hub is: ten wake-ups a second cost a thousandth of a processor.
LOOK: Final = 0.1
#: Seconds between two looks at memory; one takes a millisecond for each hundred MiB.
MEMORY: Final = 10.0
_LAG_SUM: Final = len(LAG_BOUNDS) + 1
_STATES: Final = {
    ConnectionPhase.FRESH: "new",
    ConnectionPhase.IDLE: "idle",
    ConnectionPhase.HEAD: "reading",
    ConnectionPhase.BODY: "reading",
    ConnectionPhase.QUEUED: "queued",
    ConnectionPhase.RUNNING: "running",
    ConnectionPhase.WRITING: "writing",
    ConnectionPhase.LINGERING: "closing",
}


class WorkerMetrics:
    """[worker] Writes to this worker's region; no other process does."""

    def __init__(self, region: Region, server: Server, count_pools: Callable[[Writer], object]) -> None:
        """Go on counting where the slot's last worker was ended.

        Args:
            region: of the slot.
            server: whose requests are counted.
            count_pools: counts what the database pools do.

        Raises:
            OSError: no memory.
        """
        self._writer = Writer(region)
        self._server = server
        self._count_pools = count_pools
        self._cpu = 0.0
        self._due = 0.0
        self._memory_due = 0.0
        self._timer: Any = None
        for metric in (metrics.STALLS, metrics.STALLED, metrics.SWALLOWED):  # a rate needs a zero to begin with
            self._writer.add(metric, 0)
        self.beat()
        server.recorder = Recorder(self._writer)

    def start(self) -> None:
        """Look at the hub's lag from now on."""
        self._timer = gevent.get_hub().loop.timer(LOOK, LOOK, priority=2)
        self._due = time.monotonic() + LOOK
        self._timer.start(self._look)

    def _look(self) -> None:
        """[hub] It is time; or was, some time ago."""
        now = time.monotonic()
        lag, self._due = max(0.0, now - self._due), now + LOOK
        words = self._writer.words
        place = self._writer.word(metrics.LAG)
        words[place + _bucket(lag)] += 1
        words[place + _LAG_SUM] += int(lag * NANOSECONDS)

    def count_stall(self, seconds: float | None) -> None:
        """Count one that is found (None; a native thread says so, and nothing else writes that word), or its seconds."""
        if seconds is None:
            self._writer.add(metrics.STALLS)
        else:
            self._writer.add(metrics.STALLED, int(seconds * NANOSECONDS))

    def beat(self) -> None:
        """Say how things are now."""
        writer, server = self._writer, self._server
        writer.set(metrics.RUNNING, server.running)
        writer.set(metrics.QUEUED, server.queued)
        states = Counter(_STATES.get(connection.phase, "closing") for connection in server.busy)
        states["idle"] += len(server.idle_ones)
        states["new"] += len(server.arriving)
        for state in set(_STATES.values()):
            writer.set(metrics.CONNECTIONS, states[state], (state,))
        cpu = time.process_time()
        writer.add(metrics.CPU, int((cpu - self._cpu) * NANOSECONDS))
        self._cpu = cpu
        self._count_pools(writer)
        now = time.monotonic()
        if now >= self._memory_due:
            self._memory_due = now + MEMORY
            writer.set(metrics.PSS, process.pss_bytes())
            writer.set(metrics.RSS, process.resident_bytes())
        writer.set(metrics.BEAT, time.monotonic_ns())

    def forsake(self) -> None:
        """[a child that a fork made] Count no more: this is the parent's memory."""
        self._server.recorder = None
        self._writer.close()


def _bucket(lag: float) -> int:
    return next((number for number, bound in enumerate(LAG_BOUNDS) if lag <= bound), len(LAG_BOUNDS))

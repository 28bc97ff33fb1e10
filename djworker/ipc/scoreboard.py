"""The scoreboard (Apache's word): one row for each worker, written by that worker and read by the arbiter.

No heartbeat file, no system call per beat: a beat is one store of eight bytes, which on every platform that CPython runs on
is not torn. Times are CLOCK_MONOTONIC nanoseconds, which all processes of a machine share.

A row is a page of its own, in a file of its own without a name. Its worker gets the descriptor, and the mold, from which
all workers are forked, maps none: so a worker that runs an attacker's code can write nothing but its own row, and a row
dies with its worker. Behind the page the same file has the worker's requests in flight (`in_flight`). On Linux the file is
sealed: were it made shorter, the arbiter's next look would end the arbiter.
"""

from __future__ import annotations

import mmap
import posix as raw  # in a worker, gevent's os.close would need the hub
from enum import IntEnum, auto
from itertools import count
from typing import Final

from djworker.conf.table import MOST_WORKERS
from djworker.ipc import latency, shared_memory

#: Twice the most workers that can be asked for: the others drain.
SLOTS: Final = 2 * MOST_WORKERS
_WORD: Final = 8  # bytes
#: What is mapped of a row, and what its file holds: the least that can be shared.
ROW_SIZE: Final = mmap.PAGESIZE
#: The word where the buckets of ``latency`` begin; the gauges stand before it.
_LATENCIES: Final = 64


class Phase(IntEnum):
    """Where a worker stands, in its own words."""

    EMPTY = 0
    STARTING = auto()
    READY = auto()
    DRAINING = auto()


class Gauge(IntEnum):
    """The words of a row."""

    GENERATION = 0
    PID = auto()
    PHASE = auto()
    #: When the hub last turned.
    BEAT = auto()
    #: Requests that run; those that wait for their client do not.
    RUNNING = auto()
    #: Requests answered since the fork.
    REQUESTS = auto()
    #: When the oldest running request began; 0 with none.
    OLDEST = auto()
    OPEN = auto()
    IDLE = auto()
    #: Resident memory, KiB.
    RSS = auto()
    #: Database connections of all pools: open or being opened, of these idle; greenlets that wait for one; the bound.
    POOL_SIZE = auto()
    POOL_AVAILABLE = auto()
    POOL_WAITING = auto()
    POOL_MAX = auto()
    #: Requests that are complete and wait to begin.
    QUEUED = auto()
    #: Processor time since the fork, nanoseconds.
    CPU = auto()
    #: How late the last beat was, nanoseconds.
    LATE = auto()
    #: Of the requests answered, those with 5xx.
    ERRORS = auto()
    #: How often the hub did not turn for `stall_threshold`; a native thread counts that.
    STALLS = auto()
    #: Memory in which a page that several processes share counts in parts, KiB.
    PSS = auto()


class Row:
    """[arbiter, worker] One worker's words. The memory lives while a process maps it, and never touches a disk on Linux."""

    __slots__ = ("_fd", "_map", "_words", "latencies")

    def __init__(self, fd: int) -> None:
        """Map the row behind descriptor *fd*, which this object owns from now on."""
        self._fd = fd
        self._map = shared_memory.mapped(fd, ROW_SIZE)
        self._words: memoryview[int] = memoryview(self._map).cast("q")
        #: How many requests took how long, by bucket: see ``latency``.
        self.latencies: memoryview[int] = self._words[_LATENCIES : _LATENCIES + latency.BUCKETS]

    @classmethod
    def create(cls, room: int = 0) -> Row:
        """An empty row, close-on-exec. room: bytes behind it in the same file, of which `in_flight` knows.

        Raises:
            OSError: no descriptors.
        """
        return cls(shared_memory.create("scoreboard", ROW_SIZE + room))

    def __repr__(self) -> str:
        words = "closed" if self._fd < 0 else ", ".join(f"{gauge.name}={self[gauge]}" for gauge in Gauge if self[gauge])
        return f"<Row {words or 'empty'}>"

    def __getitem__(self, gauge: Gauge) -> int:
        return self._words[gauge]

    def __setitem__(self, gauge: Gauge, value: int) -> None:
        self._words[gauge] = value

    def fileno(self) -> int:
        """The descriptor to hand to the worker; -1 once closed."""
        return self._fd

    def close(self) -> None:
        """Unmap it, and close the descriptor."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        self.latencies.release()
        self._words.release()
        self._map.close()
        raw.close(fd)


def free_slot(taken: set[int]) -> int:
    """The lowest slot number that is free."""
    return next(slot for slot in count() if slot not in taken)

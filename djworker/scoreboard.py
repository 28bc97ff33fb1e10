"""The scoreboard (Apache's word): one shared mapping, a row per worker slot, written by its worker and read by the arbiter.

No heartbeat file, no system call per beat: a beat is one store of eight bytes, which on every platform that CPython runs on
is not torn. Times are CLOCK_MONOTONIC nanoseconds, which all processes of a machine share.
"""

from __future__ import annotations

import mmap
import os
import posix as raw  # in a worker, gevent's os.close would need the hub
import sys
import tempfile
from enum import IntEnum, auto
from itertools import count

#: Twice the most workers that can be asked for (the others drain); 2048 slots of 16 words are 256 KiB, touched as needed.
SLOTS = 2048
_WORDS_PER_SLOT = 16  # two cache lines: neighbours do not slow each other down
_WORD = 8


class Phase(IntEnum):
    """Where a worker stands, in its own words."""

    EMPTY = 0
    STARTING = auto()
    READY = auto()
    DRAINING = auto()


class Gauge(IntEnum):
    """The words of a slot."""

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


class Row:
    """[arbiter, worker] One slot's words."""

    __slots__ = ("_base", "_words")

    def __init__(self, words: memoryview[int], slot: int) -> None:
        self._words = words
        self._base = slot * _WORDS_PER_SLOT

    def __getitem__(self, gauge: Gauge) -> int:
        return self._words[self._base + gauge]

    def __setitem__(self, gauge: Gauge, value: int) -> None:
        self._words[self._base + gauge] = value

    def clear(self) -> None:
        """Nobody is here."""
        for word in range(_WORDS_PER_SLOT):
            self._words[self._base + word] = 0


class Scoreboard:
    """[arbiter, mold, worker] All rows. The mapping lives as long as one process maps it; it never touches a disk on Linux."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._map = mmap.mmap(fd, SLOTS * _WORDS_PER_SLOT * _WORD)
        self._words: memoryview[int] = memoryview(self._map).cast("q")

    @classmethod
    def create(cls) -> Scoreboard:
        """An empty board, close-on-exec."""
        if sys.platform == "linux":
            fd = os.memfd_create("djworker-scoreboard", os.MFD_CLOEXEC)
        else:
            fd, path = tempfile.mkstemp(prefix="djworker-")
            os.unlink(path)
        os.ftruncate(fd, SLOTS * _WORDS_PER_SLOT * _WORD)
        return cls(fd)

    def fileno(self) -> int:
        """The descriptor to inherit."""
        return self._fd

    def close(self) -> None:
        """Let go of the mapping: no row of it can be read or written any more."""
        self._words.release()
        self._map.close()
        raw.close(self._fd)

    def row(self, slot: int) -> Row:
        """The row of *slot*.

        Raises:
            IndexError: there are only ``SLOTS``.
        """
        if not 0 <= slot < SLOTS:
            msg = f"slot {slot} is not on the scoreboard of {SLOTS}"
            raise IndexError(msg)
        return Row(self._words, slot)


def free_slot(taken: set[int]) -> int:
    """The lowest slot number that nobody holds."""
    return next(slot for slot in count() if slot not in taken)

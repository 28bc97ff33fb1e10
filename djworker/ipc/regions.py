"""Counters that outlive their worker: a region of shared memory for each slot, written by the worker in it and by no other.

The arbiter makes a region with the first worker of a slot, and keeps its descriptor; each later worker of the slot goes on
adding where the one before was ended. So no counter goes back, whatever is recycled, reloaded or killed. The status process
maps all regions, read-only. As a row of the scoreboard, a region is a file of its own without a name, sealed so that it
cannot be made shorter, and what it says is its worker's word: a reader believes no offset in it.

A region is a row of words of eight bytes. Behind the header stand entries, each a series: which metric, its labels, its
values. An entry is never moved or removed; the header's word ``USED`` takes it in once it is complete. So a worker that is
killed in the middle leaves nothing half. One store of a word is not torn, and no other process writes.
"""

from __future__ import annotations

import mmap
import os
import posix as raw  # in a worker, gevent's os.close would need the hub
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from djworker.ipc import shared_memory
from djworker.ipc.metrics import METRICS, Metric, Type

__all__ = ["Entry", "Region", "RegionReader", "Writer", "entries"]

#: Bytes. Memory is taken as it is written: a region with 200 URLs has some 100 KiB.
SIZE: Final = 2 << 20
#: Raised with every change of the form; a worker that finds another one begins anew.
FORM: Final = 0x646A7701
_FORM, _USED, _HEADER = 0, 1, 8  # words
_WORD: Final = 8
#: An entry's first word: the metric's number, bytes of the labels, number of values, nothing.
_HEAD: Final = struct.Struct("<HHHH")
_SEPARATOR: Final = "\x1f"
#: The word where the entries end. Behind it is room for the values of a series that found none, which no reader looks at.
_END: Final = SIZE // _WORD - 64
#: Characters of one label; a name that is longer is cut.
LABEL: Final = 120


class Region:
    """[arbiter, worker, status] The memory itself; it lives while a process has its descriptor or maps it."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        """Own the descriptor *fd* from now on."""
        self._fd = fd

    @classmethod
    def create(cls, name: str) -> Region:
        """An empty region, close-on-exec.

        Args:
            name: shown in the process's list of mappings.

        Raises:
            OSError: no descriptors.
        """
        return cls(shared_memory.create(name, SIZE))

    def __repr__(self) -> str:
        return f"<Region {'closed' if self._fd < 0 else self._fd}>"

    def fileno(self) -> int:
        """The descriptor to hand on; -1 once closed."""
        return self._fd

    def map(self, *, writable: bool) -> mmap.mmap:
        """The memory.

        Raises:
            OSError: no memory, or *writable* and the descriptor is not.
        """
        return shared_memory.mapped(self._fd, SIZE, writable=writable)

    def read_only(self) -> int:
        """Another descriptor of the same memory, which nothing can be written through.

        Raises:
            OSError: no descriptors.
        """
        try:
            return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # no /proc: the reader maps it read-only all the same
            return os.dup(self._fd)

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            raw.close(fd)


class Entry(NamedTuple):
    """A series in a region: ``first`` and ``size`` say which words are its values."""

    metric: Metric
    labels: tuple[str, ...]
    first: int
    size: int


def entries(memory: memoryview | mmap.mmap, begin: int, used: int) -> Iterator[tuple[Entry | None, int]]:
    """The entries from word *begin* on, each with the word behind it; None for a metric of another version.

    Ends where *used* does, or what stands there is no entry.
    """
    while begin < used:
        number, size, count, _ = _HEAD.unpack_from(memory, begin * _WORD)
        first = begin + 1 + -(-size // _WORD)
        begin, at = first + count, begin + 1
        if not count or begin > used:
            return
        metric = METRICS.get(number)
        text = bytes(memory[at * _WORD : at * _WORD + size])
        labels = tuple(text.decode(errors="replace").split(_SEPARATOR)) if metric is not None and metric.labels else ()
        fits = metric is not None and count == metric.words and len(labels) == len(metric.labels)
        yield Entry(metric, labels, first, count) if metric is not None and fits else None, begin


class Writer:
    """[worker, arbiter] The one who counts in a region.

    ``words`` are the values: ``writer.words[writer.word(metric, labels)] += 1`` counts one.
    """

    __slots__ = ("_counts", "_map", "_places", "_used", "words")

    def __init__(self, region: Region) -> None:
        """Go on where the writer before was ended; what it told of itself, its gauges, is zero again.

        Raises:
            OSError: no memory.
        """
        self._map = region.map(writable=True)
        self.words: memoryview[int] = memoryview(self._map).cast("q")
        self._places: dict[tuple[int, tuple[str, ...]], int] = {}
        self._counts: Counter[int] = Counter()
        self._used = _HEADER
        if self.words[_FORM] != FORM:
            self.words[_USED] = _HEADER
            self.words[_FORM] = FORM
        for entry, end in entries(self._map, _HEADER, self._bounded(self.words[_USED])):
            self._used = end
            if entry is not None:
                self._note(entry.metric, entry.labels, entry.first)
                if entry.metric.type is Type.GAUGE:
                    self.words[entry.first] = 0
        self.words[_USED] = self._used

    def __repr__(self) -> str:
        return f"<Writer of {len(self._places)} series in {self._used} words>"

    @staticmethod
    def _bounded(used: int) -> int:
        return used if _HEADER <= used <= _END else _HEADER

    def _note(self, metric: Metric, labels: tuple[str, ...], place: int) -> None:
        self._places[metric.number, labels] = place
        self._counts[metric.number] += 1

    def find(self, metric: Metric) -> Iterator[tuple[str, ...]]:
        """The labels of all series of a metric."""
        return (labels for number, labels in list(self._places) if number == metric.number)

    def count(self, metric: Metric) -> int:
        """How many series of a metric there are."""
        return self._counts[metric.number]

    def has(self, metric: Metric, labels: tuple[str, ...]) -> bool:
        """Whether there is such a series."""
        return (metric.number, labels) in self._places

    def word(self, metric: Metric, labels: tuple[str, ...] = ()) -> int:
        """Where the first value of a series stands. Where there is no room for one more, what is written there is lost.

        Args:
            metric: what is counted.
            labels: the values of the metric's labels, in its order.
        """
        place = self._places.get((metric.number, labels))
        return self._add(metric, labels) if place is None else place

    def _add(self, metric: Metric, labels: tuple[str, ...]) -> int:
        cut = tuple(label[:LABEL].replace(_SEPARATOR, " ") for label in labels)
        if (place := self._places.get((metric.number, cut))) is not None:
            return place
        text = _SEPARATOR.join(cut).encode(errors="replace")
        place = self._used + 1 + -(-len(text) // _WORD)
        end = place + metric.words
        if end > _END:
            return _END
        at = self._used * _WORD
        self._map[at : end * _WORD] = _HEAD.pack(metric.number, len(text), metric.words, 0) + text.ljust(
            (end - self._used - 1) * _WORD, b"\0"
        )
        self._used = self.words[_USED] = end
        self._note(metric, cut, place)
        return place

    def add(self, metric: Metric, amount: int = 1, labels: tuple[str, ...] = ()) -> None:
        """Count. amount: in the metric's unit."""
        self.words[self.word(metric, labels)] += amount

    def set(self, metric: Metric, value: int, labels: tuple[str, ...] = ()) -> None:
        """Say how a gauge stands. value: in the metric's unit."""
        self.words[self.word(metric, labels)] = value

    def close(self) -> None:
        """Unmap it. Nothing can be counted any more."""
        self.words.release()
        self._map.close()


class RegionReader:
    """[status] One region, read again and again: only entries that are new are taken apart."""

    __slots__ = ("_index", "_map", "_read", "_words")

    def __init__(self, region: Region) -> None:
        """Map it read-only.

        Raises:
            OSError: no memory.
        """
        self._map = region.map(writable=False)
        self._words: memoryview[int] = memoryview(self._map).cast("q")
        self._index: list[Entry] = []
        self._read = _HEADER

    def index(self) -> list[Entry]:
        """All entries; the list only grows, unless the region was begun anew."""
        words = self._words
        if words[_FORM] != FORM:
            return []
        used = min(words[_USED], _END)
        if used < self._read:
            self._index, self._read = [], _HEADER
        for entry, end in entries(self._map, self._read, used):
            self._read = end
            if entry is not None:
                self._index.append(entry)
        return self._index

    def values(self) -> Sequence[int]:
        """All words, as they are now."""
        return self._words[: self._read].tolist()

    def close(self) -> None:
        """Unmap it."""
        self._words.release()
        self._map.close()


def close_all(regions: Iterable[Region]) -> None:
    """Close their descriptors."""
    for region in regions:
        region.close()

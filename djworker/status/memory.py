"""Everything that the status process reads: the board, the arbiter's region and one for each slot."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Final

from djworker.ipc.board import Board, Word, WorkerSlotState
from djworker.ipc.metrics import BEAT, POOL_OUTAGE, Metric, Type
from djworker.ipc.regions import Region, RegionReader
from djworker.status.health import Facts
from djworker.units import NANOSECONDS

__all__ = ["MetricsMemory", "Series"]

#: A metric's series: labels, and its values added up.
Series = Mapping[tuple[str, ...], list[int]]
_SERVES: Final = (WorkerSlotState.READY, WorkerSlotState.DRAINING)


class MetricsMemory:
    """[status] The shared memory, mapped read-only."""

    def __init__(self, board: Region, own: Region) -> None:
        """Args: the arbiter's board, and the region of its own counters."""
        self._board = Board(board, writable=False)
        self._own = RegionReader(own)
        self._slots: dict[int, RegionReader] = {}

    def add(self, slot: int, region: Region) -> None:
        """Read the region of one more slot."""
        self._slots[slot] = RegionReader(region)

    def facts(self) -> Facts:
        """What health is judged by."""
        now = time.monotonic_ns()
        beats, outages = [], set()
        for slot, view in self._board.slots().items():
            if view.state is WorkerSlotState.READY and slot in self._slots:
                beat, out = _of_worker(self._slots[slot])
                beats.append((now - beat) / NANOSECONDS)
                outages |= out
        silent = (now - self._board[Word.BEAT]) / NANOSECONDS
        return Facts(silent, bool(self._board[Word.STOPPING]), tuple(beats), frozenset(outages))

    def series(self) -> dict[Metric, Series]:
        """All numbers, those of several slots added up where they are not told by slot."""
        found: dict[Metric, dict[tuple[str, ...], list[int]]] = {}
        serving = {slot for slot, view in self._board.slots().items() if view.state in _SERVES}
        for slot, reader in self._readers():
            entries, values = reader.index(), reader.values()
            for metric, labels, first, count in entries:
                if metric.type is Type.GAUGE and slot >= 0 and slot not in serving:
                    continue  # a worker's that is gone
                key = (*labels, str(slot)) if metric.by_slot else labels
                new = values[first : first + count]
                known = found.setdefault(metric, {})
                old = known.get(key)
                known[key] = list(new) if old is None else [a + b for a, b in zip(old, new, strict=True)]
        return dict(found)

    def _readers(self) -> Iterator[tuple[int, RegionReader]]:
        yield -1, self._own
        yield from sorted(self._slots.items())


def _of_worker(reader: RegionReader) -> tuple[int, set[str]]:
    """When its hub beat last, and which databases it cannot reach."""
    beat, outages, values = 0, set(), None
    for metric, labels, first, _count in reader.index():
        if metric is BEAT or metric is POOL_OUTAGE:
            values = values or reader.values()
            if metric is BEAT:
                beat = values[first]
            elif values[first]:
                outages.add(labels[0])
    return beat, outages

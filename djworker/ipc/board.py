"""What the arbiter tells the status process of the service as a whole, in memory that one writes and the other reads."""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final, NamedTuple

from djworker.ipc.regions import Region
from djworker.ipc.scoreboard import SLOTS

__all__ = ["Board", "SlotView", "Word", "WorkerSlotState"]

#: Words of one slot: state, process, generation.
_SLOT_WORDS: Final = 3


class Word(IntEnum):
    """The words in front of the slots."""

    #: When the arbiter's loop last turned, in nanoseconds of the monotonic clock; 0 before the first time.
    BEAT = 0
    #: Whether it has been told to stop.
    STOPPING = auto()
    #: The highest slot that a worker ever had, and one more.
    SLOTS = auto()


_FIRST: Final = 8


class WorkerSlotState(IntEnum):
    """What the arbiter knows of a slot's worker."""

    EMPTY = 0
    STARTING = auto()
    READY = auto()
    DRAINING = auto()
    KILLED = auto()


class SlotView(NamedTuple):
    """A slot as the arbiter sees it."""

    state: WorkerSlotState
    pid: int
    generation: int


class Board:
    """[arbiter, status] The words in a region of their own."""

    __slots__ = ("_map", "_words")

    def __init__(self, region: Region, *, writable: bool) -> None:
        """Map it.

        Raises:
            OSError: no memory.
        """
        self._map = region.map(writable=writable)
        self._words: memoryview[int] = memoryview(self._map).cast("q")

    def __repr__(self) -> str:
        return f"<Board {[word.name for word in Word if self[word]]}>"

    def __getitem__(self, word: Word) -> int:
        return self._words[word]

    def __setitem__(self, word: Word, value: int) -> None:
        self._words[word] = value

    def tell(self, slots: dict[int, SlotView]) -> None:
        """Write how the slots are; those that are not named are empty."""
        known = max(self[Word.SLOTS], max(slots, default=-1) + 1)
        for slot in range(known):
            at = _FIRST + slot * _SLOT_WORDS
            state, pid, generation = slots.get(slot, _EMPTY)
            self._words[at + 1], self._words[at + 2] = pid, generation
            self._words[at] = state
        self[Word.SLOTS] = known

    def slots(self) -> dict[int, SlotView]:
        """The slots that have a worker."""
        found = {}
        for slot in range(min(self[Word.SLOTS], SLOTS)):
            at = _FIRST + slot * _SLOT_WORDS
            if state := self._words[at]:
                found[slot] = SlotView(WorkerSlotState(state), self._words[at + 1], self._words[at + 2])
        return found

    def close(self) -> None:
        """Unmap it."""
        self._words.release()
        self._map.close()


_EMPTY: Final = SlotView(WorkerSlotState.EMPTY, 0, 0)

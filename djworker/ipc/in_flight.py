"""The requests that a worker has in hand, in memory that outlives it: a killed one writes no line into the access log.

They stand behind the worker's row of the scoreboard, in the same file: a record for each connection that has a request. A
request costs two stores, its head and when it began; its end one. What it was doing is written by the worker's look twice a
second, for those that have lasted as long. The arbiter reads when the worker is dead, and believes nothing: it is the worker's
word. Where the file is of an earlier program and has no room for records, there are none.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from djworker.ipc import shared_memory
from djworker.ipc.contract import END_OF_HEAD, RequestPhase
from djworker.ipc.scoreboard import ROW_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PHASES", "LostRequest", "Record", "Records", "read"]

#: What a request may be doing, by number.
PHASES: Final[Sequence[str]] = tuple(RequestPhase)
#: Records of a worker. The requests of further connections are not recorded.
COUNT: Final = 1024
#: Bytes of a record: four words, two addresses, and the head, of which the beginning is enough. Memory is taken as it is written.
RECORD: Final = 2048
_ADDRESS: Final = 48
_PEER: Final = 32
_CLIENT: Final = _PEER + _ADDRESS
_HEAD: Final = _CLIENT + _ADDRESS
_ROOM: Final = RECORD - _HEAD
SIZE: Final = COUNT * RECORD
#: The words: when the request began (0: there is none), and for which beginning the phase and the client hold.
_BEGAN, _PHASE_OF, _CLIENT_OF, _PHASE = range(4)
_WORDS: Final = RECORD // 8


class Record:
    """[worker] The place of one connection."""

    __slots__ = ("_at", "_client", "_memory", "_times", "_word", "_words")

    def __init__(self, memory: memoryview, times: memoryview[float], words: memoryview[int], number: int) -> None:
        self._memory, self._times, self._words = memory, times, words
        self._at = number * RECORD + _HEAD
        self._word = number * _WORDS
        # What stands there as the client: of a kept connection's requests it is mostly the same.
        self._client = ""

    @property
    def number(self) -> int:
        """Which of them it is."""
        return self._word // _WORDS

    def begin(self, head: bytes, began: float) -> None:
        """Note a request. began: of ``time.monotonic()``."""
        size = len(head)
        if size > _ROOM:
            head, size = head[:_ROOM], _ROOM
        at = self._at
        self._memory[at : at + size] = head
        self._times[self._word] = began

    def end(self) -> None:
        """It has its line in the access log."""
        self._times[self._word] = 0.0

    def doing(self, phase: str) -> None:
        """Note what it is doing, in the words of ``PHASES``."""
        if phase in PHASES:
            self._words[self._word + _PHASE] = PHASES.index(phase)
            self._times[self._word + _PHASE_OF] = self._times[self._word]

    def of(self, client: str) -> None:
        """Note the client that a proxy has named."""
        if client != self._client:
            self._write(_CLIENT, client)
            self._client = client
        self._times[self._word + _CLIENT_OF] = self._times[self._word]

    def belongs_to(self, peer: str) -> None:
        """Begin anew, with another connection."""
        self.end()
        self._write(_PEER, peer)

    def _write(self, place: int, address: str) -> None:
        at = self._at - _HEAD + place
        self._memory[at : at + _ADDRESS] = address.encode()[:_ADDRESS].ljust(_ADDRESS, b"\0")


class Records:
    """[worker] All of them, lent to connections."""

    def __init__(self, fd: int) -> None:
        """Map them behind the row with this descriptor.

        Raises:
            OSError: no memory.
        """
        self._free: list[Record] = []
        if os.fstat(fd).st_size >= ROW_SIZE + SIZE:
            memory = memoryview(shared_memory.mapped(fd, SIZE, offset=ROW_SIZE))
            times, words = memory.cast("d"), memory.cast("q")
            self._free = [Record(memory, times, words, number) for number in reversed(range(COUNT))]

    def __repr__(self) -> str:
        return f"<Records, {len(self._free)} free>"

    def take(self, peer: str) -> Record | None:
        """Lend one; None where there are no more."""
        if not self._free:
            return None
        record = self._free.pop()
        record.belongs_to(peer)
        return record

    def give_back(self, record: Record) -> None:
        """Have it for another connection."""
        record.end()
        self._free.append(record)


class LostRequest(NamedTuple):
    """A request that its worker has taken to its end. began: of ``time.monotonic()``; client: an address."""

    began: float
    head: bytes
    client: str
    phase: str


def read(fd: int) -> list[LostRequest]:
    """Return what a dead worker had in hand, the oldest first. fd: of its row.

    Raises:
        OSError: no memory.
    """
    if os.fstat(fd).st_size < ROW_SIZE + SIZE:
        return []
    with shared_memory.mapped(fd, SIZE, writable=False, offset=ROW_SIZE) as memory:
        view = memoryview(memory)
        times, words = view.cast("d"), view.cast("q")
        try:
            found = [_lost(view, times, words, number) for number in range(COUNT) if times[number * _WORDS]]
        finally:
            for each in (times, words, view):
                each.release()
    return sorted(found)


def _lost(memory: memoryview, times: memoryview[float], words: memoryview[int], number: int) -> LostRequest:
    word, at = number * _WORDS, number * RECORD
    began, now = times[word], time.monotonic()
    head = bytes(memory[at + _HEAD : at + RECORD]).partition(END_OF_HEAD)[0]
    phase = words[word + _PHASE] if times[word + _PHASE_OF] == began else 0
    client = _CLIENT if times[word + _CLIENT_OF] == began else _PEER
    address = bytes(memory[at + client : at + client + _ADDRESS]).rstrip(b"\0").decode("latin-1")
    known = 0 <= phase < len(PHASES)
    return LostRequest(began if 0 < began <= now else now, head, address, PHASES[phase] if known else PHASES[0])

"""The last hour of the service, for an operator who looks when something has happened: a ring of samples of a fixed size.

It lies in memory that the program of a USR2 finds again. A sample is a row of numbers, one every ten seconds.
"""

from __future__ import annotations

import os
from math import isnan, nan
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from djworker.ipc import shared_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["INTERVAL", "History", "Moment"]

#: Seconds between two samples.
INTERVAL: Final = 10.0
#: Samples that are kept: an hour.
KEPT: Final = 360
#: Raised with every change of a sample; a program that finds another form begins anew.
FORM: Final = 1.0
_FORM, _NEXT, _HEADER = 0, 1, 2  # words
_WORD: Final = 8
_NONE: Final = nan


class Moment(NamedTuple):
    """What is known of one moment, and of the interval before it. All workers together, where it is not said otherwise."""

    #: Seconds since 1970.
    at: float
    #: The one in force.
    generation: float
    ready: float
    wanted: float
    running: float
    queued: float
    #: Per second.
    requests: float
    errors: float
    #: Seconds for half of the requests, and for 99 of 100; none where there was no request.
    p50: float | None
    p99: float | None
    #: Processors that were busy.
    cpu: float
    #: Bytes, shared pages in parts.
    memory: float
    #: How late the latest hub was, seconds.
    lag: float
    #: Database connections, of these lent, requests that wait for one.
    connections: float
    leased: float
    waiting: float


_COLUMNS: Final = Moment._fields
SIZE: Final = (_HEADER + KEPT * len(_COLUMNS)) * _WORD


class History:
    """[arbiter] The ring. fd: the memory of an earlier program of this process, which it owns from now on; -1 for new memory.

    Raises:
        OSError: no descriptors, or no such memory.
    """

    def __init__(self, fd: int = -1) -> None:
        self._fd = fd if fd >= 0 else shared_memory.create("history", SIZE)
        if os.fstat(self._fd).st_size != SIZE:
            os.close(self._fd)
            self._fd = shared_memory.create("history", SIZE)
        self._words: memoryview[float] = memoryview(shared_memory.mapped(self._fd, SIZE)).cast("d")
        if self._words[_FORM] != FORM:
            self._words[_FORM], self._words[_NEXT] = FORM, 0.0

    def __repr__(self) -> str:
        return f"<History of {min(int(self._words[_NEXT]), KEPT)} samples>"

    def fileno(self) -> int:
        """The descriptor, which must stay open across an exec."""
        return self._fd

    def add(self, sample: Moment) -> None:
        """Keep a sample, in the place of the oldest."""
        number = int(self._words[_NEXT])
        first = _HEADER + number % KEPT * len(_COLUMNS)
        for word, value in enumerate(sample, first):
            self._words[word] = _NONE if value is None else value
        self._words[_NEXT] = number + 1

    def columns(self, since: float = 0.0) -> dict[str, list[Any]]:
        """Return the samples later than *since* (seconds since 1970), the oldest first: a list for each kind of number."""
        found = [sample for sample in self._samples() if (sample[0] or 0.0) > since]
        return {name: [sample[column] for sample in found] for column, name in enumerate(_COLUMNS)}

    def _samples(self) -> Iterator[list[float | None]]:
        end, width = int(self._words[_NEXT]), len(_COLUMNS)
        for number in range(max(0, end - KEPT), end):
            first = _HEADER + number % KEPT * width
            values = self._words[first : first + width].tolist()
            yield [None if isnan(value) else round(value, 6) for value in values]

    def close(self) -> None:
        """Give the memory back."""
        self._words.release()
        os.close(self._fd)

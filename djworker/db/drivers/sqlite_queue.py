"""The order in which a worker's greenlets write to one SQLite file: first come, first served."""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from typing import TYPE_CHECKING

from gevent.event import AsyncResult
from gevent.timeout import Timeout

if TYPE_CHECKING:
    from gevent.hub import Hub

Owner = object


class WriteQueue:
    """[worker] The write lock of one database file among the greenlets of one hub."""

    __slots__ = ("_waiting", "holder")

    def __init__(self) -> None:
        self.holder: Owner | None = None
        self._waiting: deque[tuple[Owner, AsyncResult[None]]] = deque()

    @staticmethod
    def of(hub: Hub, device: int, inode: int) -> WriteQueue:
        """The queue of a file. Greenlets of another native thread are like another process: they meet in SQLite's lock."""
        return _queues.setdefault((id(hub), device, inode), WriteQueue())

    def __len__(self) -> int:
        return len(self._waiting)

    def acquire(self, owner: Owner, seconds: float) -> None:
        """Take the lock, or wait for it in line. A lock that is held already is simply kept.

        Raises sqlite3.OperationalError, in SQLite's own words, after `seconds`.
        """
        if self.holder is owner:
            return
        if self.holder is None:
            self.holder = owner
            return
        turn: AsyncResult[None] = AsyncResult()
        place = (owner, turn)
        self._waiting.append(place)
        limit = Timeout(seconds)
        try:
            with limit:
                turn.get()
        except BaseException as error:
            self._leave(place)
            if error is limit:
                ahead = len(self._waiting)
                message = f"database is locked: no turn to write in {seconds:g} s ({ahead} more writers wait)"
                raise sqlite3.OperationalError(message) from None
            raise

    def _leave(self, place: tuple[Owner, AsyncResult[None]]) -> None:
        if place in self._waiting:
            self._waiting.remove(place)
        elif self.holder is place[0]:  # it was handed over in this very turn of the hub: pass it on
            self.release(place[0])

    def release(self, owner: Owner) -> None:
        """Give the lock to the next in line. From any other greenlet than the holder it is ignored."""
        if self.holder is not owner:
            return
        self.holder = None
        if self._waiting:
            self.holder, turn = self._waiting.popleft()
            turn.set(None)


# Few files and few hubs: never cleaned. A child starts anew, since the parent's greenlets do not exist in it.
_queues: dict[tuple[int, int, int], WriteQueue] = {}
os.register_at_fork(after_in_child=_queues.clear)

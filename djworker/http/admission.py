"""The order of work: requests that are under way come before those that have not begun."""

from __future__ import annotations

import time
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from gevent import get_hub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from djworker.http.concurrency import ConcurrencyLimit

__all__ = ["AdmissionQueue"]

#: libev's lowest: behind every descriptor and timer of the same turn.
LAST: Final = -2
#: Processor's time, in seconds: a turn that takes longer is not the doing of the few that this lets begin.
LONG: Final = 0.005
#: Of what a long turn takes above that, so much is spent on requests that wait. It is less than beginnings are of the work where
#: a request has a few queries, so that no pause, a collection for example, can lead to where everything is under way.
SHARE: Final = 0.25
#: Requests that do not wait hold up those under way, but a turn for each would cost as much as the shortest of them.
QUICK: Final = 0.001

#: Of a connection: the number of its last request, among all of the worker's. A client asks again when it has been answered.
SERVED: Final = attrgetter("served")

spent = time.thread_time
monotonic = time.monotonic


class AdmissionQueue:
    """[worker] While requests are under way, lets one more begin in each turn of the hub.

    A hub that begins all that has arrived works on all of it at once: each request waits for every other one at each of
    its queries, and when its turn comes, what it needs has left the processor's caches. On one core with 100 clients that
    took 26 % more CPU than with two (decision 20). One at a time, the answers of the database are looked at in between,
    so that just as many are under way as are needed to be never idle, and the others wait where they cost nothing.

    Where nothing is under way, a turn is as long as a few milliseconds; what ends without a wait holds its turn for one more. New
    connections stand in the same queue. No request is overtaken by a later one: libev calls the watchers of one turn in the
    opposite order, so what arrives on kept connections is collected until the turn is over, and sorted.

    A greenlet may keep a turn to itself: gevent looks for events after fifty switches at the earliest where a greenlet works in
    pieces, with sleep(0) between. In such turns more than one begins, or a single view would leave the others a few a second.
    """

    __slots__ = ("_awake", "_concurrency", "_end_of_turn", "_left", "arrived", "waiting")

    def __init__(self, concurrency: ConcurrencyLimit) -> None:
        self._concurrency = concurrency
        # What to call for requests that wait, in the order of their arrival.
        self.waiting: deque[Callable[[], Any]] = deque()
        self._end_of_turn: Any = None
        self._awake: Any = None
        # The time that the thread had spent when the last turn ended.
        self._left = 0.0
        # Connections that have become readable in this turn, in no order.
        self.arrived: list[Any] = []

    def is_free(self) -> bool:
        """Whether no request is under way, and none waits."""
        return not (self._concurrency.taken or self.waiting or self.arrived)

    def sort_soon(self) -> None:
        """[hub] Have the kept connections go on that become readable in this turn, in the order of their arrival.

        Each of them appends itself to ``arrived``, and the first one calls this.
        """
        get_hub().loop.run_callback(self._sort)

    def _sort(self) -> None:
        """[hub] The turn is over: what came first begins first, for a few milliseconds where none has to wait."""
        arrived = self.arrived
        arrived.sort(key=SERVED)
        rest = iter(arrived)
        try:
            if not (self._concurrency.taken or self.waiting):
                self._begin_some(rest)
        finally:
            for connection in rest:
                connection.queue_again()
            arrived.clear()

    def _begin_some(self, arrived: Iterator[Any]) -> None:
        """[hub] Written for its speed: under load, each request comes through here."""
        concurrency, end = self._concurrency, monotonic() + LONG
        for connection in arrived:
            if connection.queued:  # its greenlet was not killed before
                connection.queued = False
                connection.switch()
                if concurrency.taken or monotonic() > end:
                    return

    def queue(self, begin: Callable[[], Any]) -> None:
        """Call begin in the hub when its turn has come, even if it is not needed any more.

        It says whether what it began has come to a wait.
        """
        if not self.waiting:
            self._start()
        self.waiting.append(begin)

    def _start(self) -> None:
        if self._end_of_turn is None:
            loop = get_hub().loop
            self._end_of_turn = loop.check(priority=LAST)
            # It does nothing; while it is active, a turn does not wait for events.
            self._awake = loop.idle(priority=LAST)
        self._left = spent()
        self._end_of_turn.start(self._admit)
        self._awake.start(_nothing)

    def _admit(self) -> None:
        """[hub] Begin the next, and more where those that were begun ended at once, or where the turn was long."""
        waiting, concurrency = self.waiting, self._concurrency
        start = spent()
        allowance = (start - self._left - LONG) * SHARE
        while waiting:
            waits = waiting.popleft()()
            limit = (allowance if waits else QUICK) if concurrency.taken else LONG
            if spent() - start >= limit:
                break
        self._left = spent()
        if not waiting:
            self._end_of_turn.stop()
            self._awake.stop()


def _nothing() -> None:
    """Be called."""

"""How a request is ended from outside: one over its deadline, or one that an operator wants ended.

An exception is raised in the request's greenlet, where it waits: the database layer cancels its statement in the server and
rolls back, `finally` blocks run, the client is told. A request whose async view runs in an event loop has its task cancelled.
What goes on after that is told again `AGAIN` seconds later; then the client is cut off, and the request is told each time
anew. The exception reaches a request only while it is the one that was meant: the hub looks once more before it raises.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import gevent

from djworker import log
from djworker.deadlines import RequestTimeout
from djworker.http.bulk import share
from djworker.http.connection import KILLED, TIMED_OUT, RequestKilled
from djworker.http.phases import ConnectionPhase
from djworker.http.recorder import URL_NAME
from djworker.worker import loops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from djworker.http.connection import Connection, InFlight
    from djworker.http.server import Server
    from djworker.http.wsgi import Exchange

__all__ = ["Endings"]

logger = logging.getLogger("djworker.worker")

#: Seconds until a request that was told to end is told again: to tidy up may take a round trip or two.
AGAIN: Final = 2.0
#: Times that it is told before its client is cut off.
TIMES: Final = 2
#: How many are told at one look; the others in turns of their own, since to read where a request is takes up to half a
#: millisecond: a thousand that have waited for the same database would hold the hub for as long as a stall.
AT_ONCE: Final = 20
#: Seconds after which it is noted what a request is doing, and how many are looked at; to read where one is takes 10 µs.
LASTING: Final = 0.5
MOST_NOTED: Final = 200
#: Without a request that has begun, only in these phases is there one to be ended.
_BEFORE: Final = (ConnectionPhase.QUEUED, ConnectionPhase.HEAD)


class Describe(Protocol):
    """What is known of a request: ``Answers`` has it."""

    def describe(self, item: InFlight) -> dict[str, Any]:
        """Return its fields, as ``requests`` shows them."""

    def view(self, item: InFlight) -> str:
        """Return the view that the URLconf has for it, empty if there is none."""

    def owners(self) -> list[Any]:
        """Return the greenlets that hold a database connection."""

    def stack(self, item: InFlight) -> str:
        """Return where it is."""

    def frames(self, item: InFlight) -> Iterator[FrameType]:
        """Return where it is, the innermost frame first."""


@dataclass(slots=True)
class _Ending:
    """[worker] One request that was told to end."""

    connection: Connection
    exchange: Exchange | None
    began: float
    #: Makes the exception: raised twice, one would have two tracebacks.
    error: Callable[[], BaseException]
    status: int
    #: How often it was told, and when it is told again.
    told: int = 0
    again: float = 0.0

    def is_over(self) -> bool:
        """Whether the request is not there any more, or its answer is on its way."""
        connection, exchange = self.connection, self.exchange
        if connection.exchange is not exchange or connection.began != self.began:
            return True
        return connection.phase not in _BEFORE if exchange is None else exchange.answered


class Endings:
    """[worker] Ends requests, and sees that they end."""

    def __init__(self, server: Server, describe: Describe) -> None:
        """Make them.

        Args:
            server: whose requests they are.
            describe: for the log.
        """
        self._server = server
        self._describe = describe
        self._under_way: dict[Connection, _Ending] = {}
        #: Tells those that were too many for one look.
        self._others: Any = None

    def sweep(self, now: float) -> None:
        """Begin with those that are over their deadline, and go on with those that have not ended.

        Args:
            now: of ``time.monotonic()``; to be called about every half second.
        """
        for connection, ending in list(self._under_way.items()):
            if ending.is_over():
                del self._under_way[connection]
            elif now >= ending.again:
                self._tell_again(ending, now)
        overdue = [one for one in self._server.busy if one.is_overdue(now) and one not in self._under_way]
        for connection in overdue[:AT_ONCE]:
            self._time_out(connection, now)
        if overdue[AT_ONCE:] and not self._others:
            self._others = gevent.spawn(self._time_out_in_turns, overdue[AT_ONCE:], now)

    def _time_out_in_turns(self, connections: list[Connection], now: float) -> None:
        for connection in connections:
            share()
            if connection.is_overdue(now) and connection not in self._under_way:
                self._time_out(connection, now)

    def note_phases(self, now: float) -> None:
        """Note what those are doing that have lasted longer than a look, for the line that a killed worker does not write.

        Args:
            now: of ``time.monotonic()``.
        """
        if self._server.records is None:
            return
        lasting = [one for one in self._server.busy if one.began + LASTING < now and one.is_recorded]
        for connection in lasting[:MOST_NOTED]:
            connection.note_phase(self._describe.describe(connection.in_flight(now))["phase"])

    def kill(self, item: InFlight) -> dict[str, Any]:
        """End a request for an operator; what it was doing is returned."""
        request = self._described(item)
        text = f"{request['method']} {request['path']} is ended after {request['age']:.1f} s, as asked ({request['phase']})"
        log.event(logger, logging.WARNING, "request_killed", text, **_fields(request))
        error = partial(RequestKilled, "ended by an operator")
        self._begin(item.connection, request["phase"], error, KILLED, time.monotonic())
        return request

    def _described(self, item: InFlight) -> dict[str, Any]:
        """What is known of a request. One that waits for its body has not come to a view yet, but its path says to which."""
        request = self._describe.describe(item)
        if not request["view"] and (view := self._describe.view(item)):
            request["view"] = view
            item.environ.setdefault(URL_NAME, view)
        return request

    def _time_out(self, connection: Connection, now: float) -> None:
        item = connection.in_flight(now)
        request = self._described(item)
        limit = round(connection.time_limit, 3)
        text = f"{request['method']} {request['path']} is ended after {request['age']:.1f} s ({request['phase']})"
        fields = {
            **_fields(request),
            "limit": limit,
            "queued": round(item.queued, 3),
            "stack": self._describe.stack(item),
        }
        log.event(logger, logging.ERROR, "request_timeout", text, **fields)
        if self._server.recorder is not None and connection.exchange is not None:
            self._server.recorder.timed_out(connection.exchange)
        error = partial(RequestTimeout, f"not answered within {limit:g} s")
        self._begin(connection, request["phase"], error, TIMED_OUT, now)

    def _begin(
        self, connection: Connection, phase: str, error: Callable[[], BaseException], status: int, now: float
    ) -> None:
        exchange = connection.exchange
        if exchange is not None:
            exchange.phase, exchange.ended_by = phase, error()
        ending = self._under_way[connection] = _Ending(connection, exchange, connection.began, error, status)
        self._tell(ending, now)

    def _tell_again(self, ending: _Ending, now: float) -> None:
        if ending.told == TIMES:
            self._cut_off(ending, now)
        self._tell(ending, now)

    def _cut_off(self, ending: _Ending, now: float) -> None:
        item = ending.connection.in_flight(now)
        text = f"cut {item.method} {item.url} after {item.age:.1f} s: it goes on, although it was told to end"
        fields = {"method": item.method, "url": item.url, "age": round(item.age, 3), "peer": item.peer}
        log.event(logger, logging.ERROR, "request_cut", text, **fields, stack=self._describe.stack(item))
        ending.connection.cut(ending.status)

    def _tell(self, ending: _Ending, now: float) -> None:
        ending.told += 1
        ending.again = now + AGAIN
        gevent.get_hub().loop.run_callback(self._raise, ending)

    def _raise(self, ending: _Ending) -> None:
        """[hub] Raise in the request's greenlet, unless the request was faster."""
        greenlet = ending.connection.greenlet
        if ending.is_over() or greenlet is None:
            return
        loop = loops.loop_of(self._describe.frames(ending.connection.in_flight(time.monotonic())))
        if loop is not None and ending.told == 1:
            loops.cancel(loop, str(ending.error()))
            threads = loops.threads_of(loop)  # under gevent they are greenlets, whose idents are their ids
            for owner in [one for one in self._describe.owners() if id(one) in threads]:
                owner.throw(RequestKilled(str(ending.error())))
        else:
            greenlet.throw(ending.error())


def _fields(request: Mapping[str, Any]) -> dict[str, Any]:
    """What an event says of a request; the hub turns where one is told."""
    return {name: value for name, value in request.items() if name != "blocks_hub"}

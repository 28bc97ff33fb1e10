"""HTTP connections in a worker: a greenlet for each. The server begins them, and ends those that are over their time."""

from __future__ import annotations

import logging
import time
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

from gevent import Greenlet, spawn

from djworker.http.connection import Connection, InFlight
from djworker.http.phases import ConnectionPhase
from djworker.http.shared import DRAINING_TIMEOUT, SharedState
from djworker.log import event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


__all__ = ["InFlight", "Server"]

log = logging.getLogger("djworker.http")

#: Seconds that an idle connection is kept after drain(), for a request that is under way (gunicorn#3821: 2 s).
LINGER: Final = 1.5
#: Seconds after which an idle connection gives its greenlet back: some kB of stack, and all that is local to it. Clients
#: that ask in quick succession keep it, and with it what Django has built for it.
SUSPEND_AFTER: Final = 2.0
#: Without a request, or no longer with one.
SILENT: Final = frozenset({ConnectionPhase.FRESH, ConnectionPhase.IDLE, ConnectionPhase.LINGERING})
#: Where room is made, so much more is: one part in so many of all connections. To find them takes a look at each.
ROOM: Final = 64
#: Seconds without a whole head after which a connection is a silent one: a client that connects to ask has asked by then.
SILENT_AFTER: Final = 0.5
#: Where more than one connection in so many is new, idle ones are not ended for them: they may be silent ones in a moment.
CROWD: Final = 4
WITHOUT_HEAD: Final = (ConnectionPhase.FRESH, ConnectionPhase.HEAD)
#: Seconds between two events of that kind.
FULL_INTERVAL: Final = 10.0


class Server(SharedState):
    """[worker] The connections of a worker: it begins them, ends those that are over their time, and makes room for others."""

    # Called once when there is room for another connection.
    on_room: Callable[[], None] | None = None
    _told_of_full = 0.0

    def __repr__(self) -> str:
        return f"<server: {self.running} running, {self.queued} queued, {self.open} connections>"

    # --- gauges

    @property
    def open(self) -> int:
        """Connections."""
        return len(self.busy) + len(self.idle_ones) + len(self.arriving)

    @property
    def load(self) -> int:
        """Connections that have been active of late, and those that have just come."""
        return len(self.busy) + len(self.arriving)

    @property
    def idle(self) -> int:
        """Kept connections without a request."""
        return len(self.idle_ones) + sum(connection.phase is ConnectionPhase.IDLE for connection in self.busy)

    @property
    def running(self) -> int:
        """Requests that run; those that wait for their client, to send or to read, do not."""
        return self.concurrency.taken

    @property
    def queued(self) -> int:
        """Requests that are complete and wait to begin, and new connections that wait for their turn."""
        return len(self.admission.waiting) + len(self.concurrency.queue)

    def in_flight(self) -> list[InFlight]:
        """Return what is being served, oldest first. Safe in other threads: one step copies the set."""
        now = time.monotonic()
        found = [connection.in_flight(now) for connection in list(self.busy) if connection.phase not in SILENT]
        return sorted(found, key=lambda item: -item.age)

    def report_lost(self, reason: str) -> None:
        """Have a line in the access log for each request that will not be answered. Safe in other threads."""
        for connection in list(self.busy):
            connection.report_lost(reason)

    # --- connections

    def arrive(self, sock: Any, peer: Any) -> None:
        """[hub] Serve an accepted, non-blocking socket when its turn has come: behind the requests that are here already."""
        self.arriving.add(sock)
        self.admission.queue(partial(self._begin, sock, peer, time.monotonic()))

    def _begin(self, sock: Any, peer: Any, arrived: float) -> bool:
        """[hub] Begin to serve; say whether there is a request, and it waits for something."""
        connection = self._connect(sock, peer)
        if connection is None:
            return False
        connection.began = arrived
        connection.begin(Greenlet(self._serve, connection))
        return connection.is_under_way

    def _connect(self, sock: Any, peer: Any) -> Connection | None:
        self.arriving.discard(sock)
        try:
            connection = Connection(self, sock, peer)
        except (OSError, ValueError):
            # Closed before its turn came.
            sock.close()
            return None
        self.busy[connection] = None
        if self.open > self.max_open:
            self.make_room()
        return connection

    def _serve(self, connection: Connection) -> None:
        try:
            connection.serve()
        finally:
            if connection.suspended:
                connection.watch_idle(self._resume)
            else:
                self._end(connection)

    def _end(self, connection: Connection) -> None:
        self.busy.pop(connection, None)
        self.idle_ones.pop(connection, None)
        self.concurrency.give_back(connection)
        connection.give_record_back()
        connection.close()
        if self.on_room is not None and self.has_room():
            room, self.on_room = self.on_room, None
            room()

    def _resume(self, connection: Connection) -> None:
        """[hub] Serve a suspended connection again: there is something to receive, or it has ended."""
        connection.resume(spawn(self._serve, connection))

    # --- from outside

    def sweep(self, now: float) -> None:
        """Expire what is over its deadline. now: time.monotonic(); to be called about every half second."""
        self._list_idle(now)
        for connection in self.busy:
            if connection.deadline <= now:
                connection.expire()
        for connection in self.idle_ones:
            if connection.deadline <= now:
                connection.expire()
            elif connection.began + SUSPEND_AFTER <= now:
                connection.suspend()
            else:
                break
        if self.on_room is not None or self.open > self.max_open:
            self.make_room()

    def _list_idle(self, now: float) -> None:
        """Move those that are idle; their time begins to count now."""
        for connection in [connection for connection in self.busy if connection.phase is ConnectionPhase.IDLE]:
            connection.list_idle(now)

    def has_room(self) -> bool:
        """May another connection be accepted? The descriptors above that are the requests'."""
        return self.open < self.max_open

    def make_room(self) -> None:
        """End connections that have no request: the oldest silent ones, then the oldest idle ones, then those that end anyway."""
        now = time.monotonic()
        staying = [one for one in (*self.idle_ones, *self.busy) if not one.cut_for]
        wanted = len(staying) + len(self.arriving) - self.max_open + 1 + self.max_open // ROOM
        new = [one for one in staying if one.phase in WITHOUT_HEAD]
        silent = [one for one in new if one.began + SILENT_AFTER < now]
        if len(silent) < wanted:
            silent += _silent_before(one for one in new if one.began + SILENT_AFTER >= now)
        just_come = len(new) - len(silent) + len(self.arriving)
        others = [] if just_come > self.max_open // CROWD else _without_request(staying)
        for connection in (*silent, *others)[: max(wanted, 0)]:
            connection.shed()
            wanted -= 1
        if wanted > self.max_open // ROOM and not new and not self.arriving and now >= self._told_of_full:
            self._told_of_full = now + FULL_INTERVAL
            text = f"no descriptor is left for another connection: {self.open} of {self.max_open}, all with a request"
            event(log, logging.WARNING, "connections_full", text, open=self.open, limit=self.max_open)

    def drain(self) -> None:
        """Let every connection end: the idle ones within 2 s, the others after their answer."""
        self.draining = True
        self.header_timeout = min(self.header_timeout, LINGER)
        now = time.monotonic()
        self._list_idle(now)
        for connection in self.idle_ones:
            connection.hurry(now + LINGER)
        for connection in self.busy:
            waits_for_head = connection.phase in (ConnectionPhase.FRESH, ConnectionPhase.HEAD)
            connection.hurry(now + (LINGER if waits_for_head else DRAINING_TIMEOUT))


def _silent_before(connections: Iterable[Any]) -> Iterator[Any]:
    """Give those that had been silent for long when they were accepted.

    A client that connects to ask has sent the request by the time that the kernel's queue has come to its connection. The others
    connected later: where there is one, no look at them is needed.
    """
    fresh = (one for one in connections if one.phase is ConnectionPhase.FRESH)
    return takewhile(lambda one: one.quiet_for() > SILENT_AFTER, fresh)


def _without_request(connections: list[Any]) -> list[Any]:
    """Return those that wait for another request, and then those that end."""
    return [
        one for phase in (ConnectionPhase.IDLE, ConnectionPhase.LINGERING) for one in connections if one.phase is phase
    ]

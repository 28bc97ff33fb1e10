"""A connection between its requests: fresh, kept and idle, suspended, or in the queue for its turn or a permit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from djworker.deadlines import NEVER
from djworker.http.phases import TO, ConnectionPhase
from djworker.http.request import ProtocolError
from djworker.http.transport import Transport
from djworker.ipc.contract import READ_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from djworker.http.shared import SharedState
    from djworker.ipc.in_flight import Record

__all__ = ["IdleConnection"]

now = time.monotonic

# Looking a member up in its class costs as much as a call.
CLOSED, FRESH, IDLE = ConnectionPhase.CLOSED, ConnectionPhase.FRESH, ConnectionPhase.IDLE
QUEUED, RUNNING = ConnectionPhase.QUEUED, ConnectionPhase.RUNNING
TO_IDLE, TO_RUNNING = TO[IDLE], TO[RUNNING]


class IdleConnection(Transport):
    """[worker] What a connection does while it has no request, and how it gets a permit for the next."""

    __slots__ = (
        "_greenlet",
        "_late",
        "_record",
        "_server",
        "_turn_came",
        "_unserved",
        "_waits",
        "began",
        "has_permit",
        "listed_idle",
        "queued",
        "served",
        "suspended",
        "switch",
    )

    def __init__(self, server: SharedState, sock: Any) -> None:
        super().__init__(sock, server.deadline_in, server.write_timeout, server.bulk)
        self._server = server
        self._greenlet: Any = None
        self.switch: Any = None
        # When the request began; or the wait for one, once the sweep has seen that it is long.
        self.began = now()
        self.has_permit = False
        # The number of the last request that was served, among all of the worker's.
        self.served = 0
        # Of an idle connection: does its greenlet wait for a request, is it among the server's idle ones, and has it given
        # its greenlet up?
        self._waits = self.listed_idle = self.suspended = False
        # Does its greenlet stand in the admission queue?
        self.queued = False
        # Did its turn come when it had waited for too long?
        self._late = False
        # When the turn came of the last request that did not begin at once: its time counts from then.
        self._turn_came = 0.0
        # The head of a request that waits for a permit, or was refused one.
        self._unserved = b""
        # Where its request is noted for the case that the worker is killed; None before the first, and while it is idle.
        self._record: Record | None = None

    def _fresh_bytes(self) -> bytes:
        """Receive on a new connection, whose turn it is; nothing at its end."""
        self._turn_came = at = now()
        self._late = at - self.began > self._server.queue_timeout
        try:
            data: bytes = self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return self._first_bytes()
        except OSError:
            return b""
        self.phase = TO_RUNNING[self.phase]
        return data

    def _first_bytes(self) -> bytes:
        """Receive what comes after the connection's turn: it has arrived now."""
        self._late = False
        self.enter(FRESH, self._server.header_timeout)
        self._wait(self._reader)
        data = self.recv(READ_SIZE)
        self.began = now()
        self.enter(RUNNING)
        if data and not self._server.admission.is_free():
            self._wait_turn()
        return data

    def _kept_bytes(self) -> bytes:
        """Receive on a kept connection, which is idle until something comes; nothing at its end, or if it is suspended."""
        server = self._server
        if self.phase is not IDLE:
            if server.draining or not server.keep_alive:
                return b""
            # The usual move is written out: to look it up costs as much as all that follows.
            self.phase = IDLE if self.phase is RUNNING else TO_IDLE[self.phase]
            server.concurrency.give_back(self)
            # The hub switches here directly. A Waiter, which would hold back a switch that comes too late, costs more than all
            # else that is done here: only the reader, which is stopped at once, and the admission queue and suspend(), which ask
            # first, ever switch.
            self._waits = True
            self._reader.start(self._arrived)
            try:
                self._hub.switch()
            finally:
                self._reader.stop()
                self._waits = self.queued = False
            if self.suspended:
                return b""
        elif not server.admission.is_free():  # it was suspended
            self._wait_turn()
        try:
            data: bytes = self._sock.recv(READ_SIZE)
        except BlockingIOError:
            data = self.recv(READ_SIZE)
        except OSError:
            data = b""
        if self.phase is IDLE:
            self.began = now()
            self.phase = RUNNING
        else:
            self.phase = TO_RUNNING[self.phase]
        if self.listed_idle:
            self._list_busy()
        return data

    def _arrived(self) -> None:
        """[hub] Something has come: it is served at once where it came alone, or when its turn has come."""
        server = self._server
        admission = server.admission
        # What is_free() asks is written out: the call costs as much as the rest.
        if not (self._loop.pendingcnt or server.concurrency.taken or admission.waiting or admission.arrived):
            self.switch()
        elif not self.queued:
            self.queued = True
            if not admission.arrived:
                admission.sort_soon()
            admission.arrived.append(self)

    def list_idle(self, at: float) -> None:
        """[hub] Be one of the server's idle connections. A sweep has found it idle: its time begins to count now (at)."""
        server = self._server
        del server.busy[self]
        server.idle_ones[self] = None
        self.listed_idle = True
        self.give_record_back()
        self.began = at
        self.idle_until(at + server.keep_alive)

    def _list_busy(self) -> None:
        """Be one of the busy ones again: there is a request, or the end."""
        server = self._server
        server.idle_ones.pop(self, None)
        server.busy[self] = None
        self.listed_idle = False
        self.idle_until(NEVER)

    def _wait_turn(self) -> None:
        """Let those go on that are under way, and those begin that were here before."""
        self.queue()
        try:
            self._hub.switch()
        finally:
            self.queued = False
        self.enter(RUNNING)

    def queue(self) -> None:
        """Stand in the admission queue."""
        if self.listed_idle:
            self._list_busy()
        self.queued = True
        self.enter(QUEUED)
        self.began = now()
        self._server.admission.queue(self.begin_in_turn)

    def queue_again(self) -> None:
        """[hub] Stand in the admission queue, unless the greenlet was killed before."""
        if self.queued:
            self._reader.stop()
            self._waits = False
            self.queue()

    def begin_in_turn(self) -> bool:
        """[hub] The turn has come, unless the greenlet was killed before. Say whether the request waits for something."""
        if not self.queued:
            return False
        self.queued = False
        self._turn_came = at = now()
        self._late = at - self.began > self._server.queue_timeout
        self.switch()
        return self.is_under_way

    @property
    def is_under_way(self) -> bool:
        """Whether there is a request, and it is neither served nor waiting for its turn."""
        phase = self.phase
        return phase is not IDLE and phase is not QUEUED and phase is not FRESH and phase is not CLOSED

    def suspend(self) -> None:
        """Give the greenlet back: no request has come for long, and a stack weighs more than a connection.

        What the greenlet held of the application's, a database connection for example, goes with it.
        """
        if self._waits:
            self._loop.run_callback(self._suspend)

    def _suspend(self) -> None:
        """[hub] Let the greenlet end, unless a request was faster."""
        if self._waits and not self.queued:
            self.suspended = True
            self.switch()

    def watch_idle(self, resume: Callable[[Any], None]) -> None:
        """Call resume, in the hub, when there is something to receive."""
        self._greenlet = self.switch = None
        self._reader.start(resume, self)

    def begin(self, greenlet: Any) -> None:
        """[hub] Begin in a greenlet, at once."""
        self._greenlet = greenlet
        self.switch = greenlet.switch
        self.switch()

    def resume(self, greenlet: Any) -> None:
        """Go on in another greenlet."""
        self._reader.stop()
        self._greenlet = greenlet
        self.switch = greenlet.switch
        self.suspended = False

    def _turn_pipelined(self) -> None:
        """Let others run before the next request that is already here."""
        self._server.concurrency.give_back(self)
        if self._server.admission.is_free():
            self.share()
            self.began = now()
        else:
            self._wait_turn()

    # --- permits

    def _acquire(self, head: bytes, since: float) -> None:
        """Wait for a permit, behind those that wait already. Raises ProtocolError where that takes too long.

        since: when the request could have begun.
        """
        concurrency = self._server.concurrency
        late, self._late = self._late, False
        if self._is_health_check(head):
            concurrency.resume(self)
        else:
            self._unserved = head
            self.enter(QUEUED)
            came = now()
            left = since + self._server.queue_timeout - came
            if late or left <= 0 or not concurrency.acquire(self, left):
                raise ProtocolError(503, "the request waited for too long to begin")
            self._unserved = b""
            self._turn_came = self.counts_from + now() - came
        self.enter(RUNNING)

    # --- for the case that the worker is killed

    @property
    def peer(self) -> str:
        """The address at the other end."""
        raise NotImplementedError

    def record(self, head: bytes) -> None:
        """Note a request in memory that outlives the worker. Without a record left, it will have no line there."""
        record = self._record
        if record is None and self._server.records is not None:
            record = self._record = self._server.records.take(self.peer)
        if record is not None:
            record.begin(head, self.began)

    def forget_record(self) -> None:
        """The request has its line in the access log. Safe in other threads."""
        if self._record is not None:
            self._record.end()

    def give_record_back(self) -> None:
        """Let another connection have the place."""
        record, self._record = self._record, None
        if record is not None and self._server.records is not None:
            self._server.records.give_back(record)

    # --- its time

    @property
    def greenlet(self) -> Any:
        """That of the request; None between two, after a while."""
        return self._greenlet

    @property
    def counts_from(self) -> float:
        """From when the time of the request counts: its head was there, and it was its turn."""
        return max(self.began, self._turn_came)

    def _is_health_check(self, head: bytes) -> bool:
        paths = self._server.health_paths
        return bool(paths) and head.split(b" ", 2)[1].partition(b"?")[0] in paths

    def _wait_for_peer(self, watcher: Any) -> None:
        """Wait without a permit: a request runs while its application does, and slow clients can be many."""
        if self.has_permit:
            self._without_permit(self._wait, watcher)
        else:
            self._wait(watcher)

    def share(self) -> None:
        """Go on in a later turn of the hub if long loops have had their part of this one."""
        if not self.bulk.is_used_up():
            return
        if self.has_permit:
            self._without_permit(self.bulk.pause)
        else:
            self.bulk.pause()

    def _without_permit(self, wait: Callable[..., object], *arguments: object) -> None:
        concurrency, served = self._server.concurrency, self.served
        concurrency.give_back(self)
        try:
            wait(*arguments)
        finally:
            if self.served == served and self.phase is not CLOSED:  # else its request has ended without this greenlet
                concurrency.resume(self)

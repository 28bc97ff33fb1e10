"""A connection between its requests: fresh, kept and parked, or waiting for its turn or a permit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from gevent import sleep

from djworker.http.protocol import ProtocolError
from djworker.http.wire import NEVER, Phase, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from djworker.http.connection import Site

__all__ = ["READ_SIZE", "Kept"]

now = time.monotonic

# Bytes for one recv of heads. Pipelined requests beyond it wait in the kernel.
READ_SIZE: Final = 65_536
# Seconds that a request waits for a permit before it is refused with 503.
PERMIT_TIMEOUT: Final = 30.0
# Looking a member up in its class costs as much as a call.
FRESH, IDLE, QUEUED, RUNNING = Phase.FRESH, Phase.IDLE, Phase.QUEUED, Phase.RUNNING


class Kept(Wire):
    """[worker] What a connection does while it has no request, and how it gets a permit for the next."""

    __slots__ = ("_greenlet", "_parked", "_queued", "_site", "_switch", "began", "dozing", "has_permit", "resting")

    def __init__(self, site: Site, sock: Any, greenlet: Any) -> None:  # noqa: ANN401
        super().__init__(sock, site.patience, site.write_timeout)
        self._site = site
        self._greenlet = greenlet
        self._switch = greenlet.switch
        # When the request began; or the wait for one, once the sweep has seen that it is long.
        self.began = now()
        self.has_permit = False
        # Of an idle connection: does its greenlet wait for a request, is it among the site's idle ones, and has it given
        # its greenlet up?
        self._parked = self.resting = self.dozing = False
        # Does its greenlet wait at the turnstile?
        self._queued = False

    def _fresh_bytes(self) -> bytes:
        """Receive on a new connection; nothing at its end."""
        self.deadline = self.patience(self._site.header_timeout)
        data = self.recv(READ_SIZE)
        self.began = now()
        self.deadline = NEVER
        self.phase = RUNNING
        if data and not self._site.turnstile.is_free(self.has_permit):
            self._wait_turn()
        return data

    def _kept_bytes(self) -> bytes:
        """Receive on a kept connection, which is parked until something comes; nothing at its end, or if it dozes."""
        site = self._site
        permits = site.permits
        if self.phase is not IDLE:
            if site.draining or not site.keep_alive:
                return b""
            self.phase = IDLE
            self.has_permit = False
            permits.taken -= 1
            if permits.queue:
                permits.hand_out()
            self._park()
            if self.dozing:
                return b""
        elif not site.turnstile.is_free():  # roused from its doze
            self._wait_turn()
        data = self._received()
        if self.phase is IDLE:
            self.began = now()
        self.phase = RUNNING
        if self.resting:
            site.rejoin(self)
        if data:
            if permits.queue or permits.taken >= permits.limit:
                self._acquire()
            else:
                permits.taken += 1
                self.has_permit = True
        return data

    def _park(self) -> None:
        """Wait until there is something to receive, or until the connection is to doze.

        The hub switches here directly. A Waiter, which would hold back a switch that comes too late, costs more than all
        else that is done here: only the reader, which is stopped at once, and the turnstile and doze(), which ask first,
        ever switch.
        """
        self._parked = True
        self._reader.start(self._arrived)
        try:
            self._hub.switch()
        finally:
            self._reader.stop()
            self._parked = self._queued = False

    def _arrived(self) -> None:
        """[hub] Something has come: it is served at once, or when its turn has come."""
        if self._site.turnstile.is_free():
            self._switch()
        else:
            self._reader.stop()
            self._parked = False
            self._queue()

    def _wait_turn(self) -> None:
        """Let those go on that are under way, and those begin that were here before."""
        self._queue()
        try:
            self._hub.switch()
        finally:
            self._queued = False
        self.phase = RUNNING

    def _queue(self) -> None:
        if self.resting:
            self._site.rejoin(self)
        self._queued = True
        self.phase = QUEUED
        self.began = now()
        self._site.turnstile.queue(self._begin)

    def _begin(self) -> bool:
        """[hub] The turn has come, unless the greenlet was killed before. Say whether the request waits for something."""
        if not self._queued:
            return False
        self._queued = False
        self._switch()
        return self.phase is not IDLE and self.phase is not QUEUED

    def _received(self) -> bytes:
        """Receive what has come."""
        try:
            return self._sock.recv(READ_SIZE)  # type: ignore[no-any-return]
        except BlockingIOError:
            return self.recv(READ_SIZE)
        except OSError:
            return b""

    def doze(self) -> None:
        """Give the greenlet back: nobody has asked for long, and a stack weighs more than a connection.

        What the greenlet held of the application's, a database connection for example, goes with it.
        """
        if self._parked:
            self._hub.loop.run_callback(self._fall_asleep)

    def _fall_asleep(self) -> None:
        """[hub] Let the greenlet end, unless a request was faster."""
        if self._parked:
            self.dozing = True
            self._switch()

    def rest(self, rouse: Callable[[Any], None]) -> None:
        """Call rouse, in the hub, when there is something to receive."""
        self._greenlet = self._switch = None
        self._reader.start(rouse, self)

    def rise(self, greenlet: Any) -> None:  # noqa: ANN401
        """Go on in another greenlet."""
        self._reader.stop()
        self._greenlet = greenlet
        self._switch = greenlet.switch
        self.dozing = False

    def _turn_pipelined(self) -> None:
        """Let others run before the next request that is already here."""
        permits = self._site.permits
        if permits.contended:
            self.has_permit = False
            permits.release()
            self._acquire()
        elif not self._site.turnstile.is_free(self.has_permit):
            self._wait_turn()
            return
        else:
            sleep(0)
        self.began = now()

    def _acquire(self) -> None:
        permits = self._site.permits
        self.phase = Phase.QUEUED
        self.deadline = NEVER
        if not permits.acquire(PERMIT_TIMEOUT):
            raise ProtocolError(503, "no permit became free")
        self.has_permit = True
        self.phase = RUNNING

"""A connection between its requests: fresh, kept and parked, or waiting for a permit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from gevent import sleep
from gevent.hub import Waiter

from djworker.http.protocol import ProtocolError
from djworker.http.wire import NEVER, Phase, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from djworker.http.connection import Site
    from djworker.http.permits import Permits

__all__ = ["READ_SIZE", "Kept"]

now = time.monotonic

# Bytes for one recv of heads. Pipelined requests beyond it wait in the kernel.
READ_SIZE: Final = 65_536
# Seconds that a request waits for a permit before it is refused with 503.
PERMIT_TIMEOUT: Final = 30.0
# Looking a member up in its class costs as much as a call.
FRESH, IDLE = Phase.FRESH, Phase.IDLE


class Kept(Wire):
    """[worker] What a connection does while it has no request, and how it gets a permit for the next."""

    __slots__ = ("_greenlet", "_site", "_waiter", "began", "dozing", "has_permit")

    def __init__(self, site: Site, sock: Any, greenlet: Any) -> None:  # noqa: ANN401
        super().__init__(sock, site.patience, site.write_timeout)
        self._site = site
        self._greenlet = greenlet
        # When the request began, or the wait for one.
        self.began = now()
        self.has_permit = False
        # Of a parked connection; and whether it has given up its greenlet.
        self._waiter: Any = None
        self.dozing = False

    def _fresh_bytes(self) -> bytes:
        """Receive on a new connection; nothing at its end."""
        self.deadline = self.patience(self._site.header_timeout)
        data = self.recv(READ_SIZE)
        self.began = now()
        return data

    def _kept_bytes(self) -> bytes:
        """Receive on a kept connection, which is parked until something comes; nothing at its end, or if it dozes."""
        site = self._site
        if self._waiter is not None or self._stay():
            return self._woken_bytes(site.permits)
        return b""

    def _stay(self) -> bool:
        """Park until there is something to receive; say whether there is."""
        site, permits, reader = self._site, self._site.permits, self._reader
        if site.draining or not site.keep_alive:
            return False
        del site.busy[self]
        site.idle_ones[self] = None
        self.phase = IDLE
        self.began = now()
        self.deadline = self.began + site.keep_alive
        self.has_permit = False
        permits.taken -= 1
        if permits.queue:
            permits.hand_out()
        waiter = self._waiter = Waiter(self._hub)
        reader.start(waiter.switch, True)
        try:
            self.dozing = not waiter.get()
        finally:
            reader.stop()
        return not self.dozing

    def _woken_bytes(self, permits: Permits) -> bytes:
        """Receive after the wait."""
        self._waiter = None
        self.deadline = NEVER
        site = self._site
        site.idle_ones.pop(self, None)
        site.busy[self] = None
        try:
            data: bytes = self._sock.recv(READ_SIZE)
        except BlockingIOError:
            data = self.recv(READ_SIZE)
        except OSError:
            data = b""
        self.began = now()
        if data:
            if permits.queue or permits.taken >= permits.limit:
                self._acquire()
            else:
                permits.taken += 1
                self.has_permit = True
        return data

    def doze(self) -> None:
        """Give the greenlet back: nobody has asked for long, and a stack weighs more than a connection.

        What the greenlet held of the application's, a database connection for example, goes with it.
        """
        if self._waiter is not None and not self.dozing:
            self._hub.loop.run_callback(self._waiter.switch, False)

    def rest(self, rouse: Callable[[Any], None]) -> None:
        """Call rouse, in the hub, when there is something to receive."""
        self._greenlet = None
        self._reader.start(rouse, self)

    def rise(self, greenlet: Any) -> None:  # noqa: ANN401
        """Go on in another greenlet."""
        self._reader.stop()
        self._greenlet = greenlet
        self.dozing = False

    def _turn_pipelined(self) -> None:
        """Let others run before the next request that is already here."""
        permits = self._site.permits
        if permits.contended:
            self.has_permit = False
            permits.release()
            self._acquire()
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

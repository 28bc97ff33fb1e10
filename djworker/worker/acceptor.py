"""Accepting: at once, in the order of arrival, and each worker its part."""

from __future__ import annotations

import _socket
import errno
import logging
import struct
import time
from typing import TYPE_CHECKING, Any, Final

import gevent

from djworker import log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djworker.http.server import Server
    from djworker.worker.balance import Share

logger = logging.getLogger("djworker.worker")

#: Connections taken in one turn of the hub: two milliseconds.
_BURST: Final = 256
#: Seconds that a worker which serves more connections than the others leaves new ones to them. Then they are busy with something.
_HOLD: Final = 0.02
#: Of connections that were left to others and that none took, one worker takes so many at a time.
_LEFT_OVER: Final = 4
#: tcpi_unacked of a listening socket: how many connections wait in it (Linux: tcp_get_info).
_UNACKED: Final = struct.Struct("24xI")
#: libev's highest: connections that wait in the kernel have arrived before the requests that come in the same turn.
_FIRST: Final = 2
#: Out of descriptors or memory, or whatever else lasts: accepting again at once would only spin (gevent#18).
_PAUSE: Final = 0.5
_POLL: Final = 0.01
#: The client gave up between the handshake and accept(2).
_GONE: Final = (errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EINTR)
#: A unix socket that is shut down: the arbiter lets no new client in.
_TURNED_AWAY: Final = errno.EINVAL
#: Handshakes that were under way when the arbiter turned new connections away end within this time, seconds.
_HANDSHAKES: Final = 0.1


class Acceptor:
    """[worker] The listening sockets. A connection needs no permit: its requests do."""

    def __init__(self, server: Server, sockets: Sequence[_socket.socket], *, share: Share | None = None) -> None:
        """share: what this worker and the others on these sockets know of each other; None where there are no others."""
        self._server = server
        self._sockets = list(sockets)
        self._share = share
        # Connections were left to other workers; when that ends, no worker has taken them.
        self._holding = False
        self._watchers: list[Any] = []
        self._timer: Any = None
        self._next_complaint = 0.0

    def start(self) -> None:
        """Begin to accept."""
        loop = gevent.get_hub().loop
        self._watchers = [loop.io(sock.fileno(), 1, priority=_FIRST) for sock in self._sockets]
        self._timer = loop.timer(_HOLD)
        self.tell()
        self._resume()

    def close(self) -> None:
        """Never accept again, and let go of the sockets."""
        if self._share is not None:
            self._share.forget()
        for watcher in (*self._watchers, self._timer):
            if watcher is not None:
                watcher.close()
        self._watchers, self._timer = [], None
        for sock in self._sockets:
            sock.close()
        self._sockets = []

    def forsake(self) -> None:
        """[a worker's child] Close the copies of the sockets, and leave the watchers as they are."""
        for sock in self._sockets:
            sock.close()

    def empty_backlog(self, deadline: float) -> None:
        """Take everything that the kernel has queued until *deadline*: no other worker will."""
        self._pause()
        handshakes_end = min(deadline, time.monotonic() + _HANDSHAKES)
        for sock in list(self._sockets):
            while time.monotonic() < deadline:
                if self._accept(sock):
                    gevent.sleep(0)  # clients that connect without end must not stop the others
                elif time.monotonic() >= handshakes_end:
                    break
                else:
                    gevent.sleep(_POLL)

    def _resume(self) -> None:
        for sock, watcher in zip(self._sockets, self._watchers, strict=True):
            if not watcher.active:
                watcher.start(self._on_acceptable, sock)

    def _pause(self) -> None:
        for watcher in self._watchers:
            watcher.stop()

    def _on_acceptable(self, sock: _socket.socket) -> None:
        """[hub] Must not wait."""
        part = self._part(sock)
        if not part:
            self._hold()
            return
        self._holding = False
        for _ in range(part):
            if not self._accept(sock):
                break
        self.tell()

    def tell(self) -> None:
        """Have the others know how many connections this worker serves."""
        if self._share is not None:
            self._share.tell(self._server.load)

    def _part(self, sock: _socket.socket) -> int:
        """Return how many connections to take now."""
        if self._share is None:
            return _BURST
        part = self._share.part(self._server.load, _waiting(sock))
        return min(part, _BURST) or (_LEFT_OVER if self._holding else 0)

    def _hold(self) -> None:
        """Leave those that wait to workers that serve less, for a moment."""
        self._holding = True
        self._pause()
        self._timer.start(self._resume)

    def _accept(self, sock: _socket.socket) -> bool:
        """Accept one connection and serve it; False when there is none, or no room for it."""
        if not self._server.has_room():
            self._wait_for_room()
            return False
        try:
            fd, peer = sock._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - what socket.accept() calls, without the patched socket around it
        except BlockingIOError:
            return False
        except OSError as error:
            self._on_error(error)
            return False
        client = _socket.socket(sock.family, sock.type, sock.proto, fileno=fd)
        client.setblocking(False)
        self._server.arrive(client, peer)
        return True

    def _wait_for_room(self) -> None:
        """Have connections ended, and go on when they are; the kernel keeps clients that come until then."""
        self._pause()
        self._server.on_room = self._resume
        self._server.make_room()

    def _on_error(self, error: OSError) -> None:
        if error.errno in _GONE:
            return
        now = time.monotonic()
        if now >= self._next_complaint and error.errno != _TURNED_AWAY:
            self._next_complaint = now + 1.0
            text = f"cannot accept: {error.strerror}; trying again every {_PAUSE} s"
            log.event(logger, logging.ERROR, "accept_failed", text, error=error.strerror)
        if self._watchers:
            self._pause()
            gevent.spawn_later(_PAUSE, self._resume)


def _waiting(sock: _socket.socket) -> int:
    """Return how many connections wait to be accepted; one where that cannot be known."""
    if sock.family == _socket.AF_UNIX or not hasattr(_socket, "TCP_INFO"):
        return 1
    info = sock.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_INFO, _UNACKED.size)
    return int(_UNACKED.unpack(info)[0])

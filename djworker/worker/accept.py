"""Accepting: not so eagerly that one worker takes all connections."""

from __future__ import annotations

import _socket
import errno
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import gevent

from djworker import log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djworker.http.connection import Site

logger = logging.getLogger("djworker.worker")

#: Connections taken in one turn of the hub. Several workers wait on one socket, and whoever is awake first would take a
#: whole burst (gunicorn#2266); one at a time lets the others wake up too.
_SHARED_BURST, _LONE_BURST = 1, 64
#: A worker that is behind takes, when its turn has come, one connection more for so many requests that wait.
_SHARE = 8
#: Out of descriptors or memory, or whatever else lasts: accepting again at once would only spin (gevent#18).
_PAUSE = 0.5
_POLL = 0.01
#: The client gave up between the handshake and accept(2).
_GONE = (errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EINTR)
#: A unix socket that is shut down: the arbiter lets nobody new in.
_TURNED_AWAY = errno.EINVAL
#: Handshakes that were under way when the arbiter turned new connections away end within this time, seconds.
_HANDSHAKES = 0.1


class Acceptor:
    """[worker] The listening sockets. A connection needs no permit: its requests do."""

    def __init__(self, site: Site, sockets: Sequence[_socket.socket], *, alone: bool) -> None:
        self._site = site
        self._sockets = list(sockets)
        self._burst = _LONE_BURST if alone else _SHARED_BURST
        self._watchers: list[Any] = []
        self._next_complaint = 0.0

    def start(self) -> None:
        """Begin to accept."""
        loop = gevent.get_hub().loop
        self._watchers = [loop.io(sock.fileno(), 1) for sock in self._sockets]
        self._resume()

    def close(self) -> None:
        """Never accept again, and let go of the sockets."""
        for watcher in self._watchers:
            watcher.close()
        self._watchers = []
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
        settled = min(deadline, time.monotonic() + _HANDSHAKES)
        for sock in list(self._sockets):
            while time.monotonic() < deadline:
                if self._accept(sock):
                    gevent.sleep(0)  # clients that connect without end must not stop the others
                elif time.monotonic() >= settled:
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
        """[hub] Must not wait. A worker with much to do accepts in its turn, so that one with less to do is faster."""
        if self._site.turnstile.is_free():
            self._accept_some(sock, self._burst)
        else:
            self._pause()
            self._site.turnstile.queue(partial(self._in_turn, sock))

    def _in_turn(self, sock: _socket.socket) -> None:
        if self._watchers:
            self._resume()
            # With one at a turn, a crowd that comes at once to a worker that is behind would wait for the square of its number.
            self._accept_some(sock, max(self._burst, 1 + len(self._site.turnstile.waiting) // _SHARE))

    def _accept_some(self, sock: _socket.socket, most: int) -> None:
        for _ in range(most):
            if not self._accept(sock):
                return

    def _accept(self, sock: _socket.socket) -> bool:
        """Accept one connection and serve it; False when there is none, or no room for it."""
        if not self._site.has_room():
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
        self._site.arriving.add(client)
        gevent.spawn(self._site.handle, client, peer)
        return True

    def _wait_for_room(self) -> None:
        """Have connections ended, and go on when they are; the kernel keeps those who come until then."""
        self._pause()
        self._site.on_room = self._resume
        self._site.make_room()

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

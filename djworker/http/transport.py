"""A non-blocking socket in the hub: what waits, how long it may, and who wakes it."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

from gevent import get_hub

from djworker.deadlines import NEVER
from djworker.http.phases import ConnectionPhase, Phased
from djworker.http.wsgi import ClientGone

if TYPE_CHECKING:
    from collections.abc import Callable

    from djworker.http.bulk import BulkWork

__all__ = ["Transport"]

READ, WRITE = 1, 2
#: Bytes for one sendfile: what the page cache can give without holding the hub for long.
SENDFILE_SIZE: Final = 1 << 18
LINGER_OFF: Final = struct.pack("ii", 1, 0)
MSG_MORE: Final = getattr(socket, "MSG_MORE", 0)
#: Linux alone has this option of a socket under this name.
TCP_INFO: Final = getattr(socket, "TCP_INFO", None)
#: tcpi_last_data_recv: milliseconds.
LAST_DATA: Final = struct.Struct("52xI")


class Transport(Phased):
    """[worker] One accepted socket, with watchers that live as long as it does.

    gevent's own socket wrapper starts and stops a watcher around every call that would block, and tries first; here the
    watcher stays, and a wait comes before the first recv, because a kept connection has nothing to read yet.
    """

    __slots__ = (
        "_accepted",
        "_hub",
        "_loop",
        "_reader",
        "_sock",
        "_wait",
        "_writer",
        "bulk",
        "cut_for",
        "unsent",
        "write_timeout",
    )

    def __init__(
        self,
        sock: Any,
        deadline_in: Callable[[float], float],
        write_timeout: float,
        bulk: BulkWork,
    ) -> None:
        super().__init__(deadline_in)
        hub = self._hub = get_hub()
        # A socket of gevent's has the plain one in it.
        self._accepted = sock
        self._sock = getattr(sock, "_sock", sock)
        self._loop = hub.loop
        self._wait = hub.wait
        self._reader = self._loop.io(sock.fileno(), READ)
        self._writer: Any = None
        # Seconds for the peer to take the next piece.
        self.write_timeout = write_timeout
        self.bulk = bulk
        # Why the connection was ended from outside, empty while it was not.
        self.cut_for = ""
        # Bytes of the last send that have not gone out.
        self.unsent = 0

    def recv(self, size: int) -> bytes:
        """Receive; nothing at the end, of whatever kind."""
        while True:
            try:
                return self._sock.recv(size)  # type: ignore[no-any-return]
            except BlockingIOError:
                self._wait_for_peer(self._reader)
            except OSError:
                return b""

    def recv_at_once(self, size: int) -> bytes | None:
        """Receive what is here; nothing at the end, None where something may come."""
        try:
            return self._sock.recv(size)  # type: ignore[no-any-return]
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def recv_later(self, size: int) -> bytes:
        """Receive where nothing is here yet; nothing at the end."""
        self._wait_for_peer(self._reader)
        return self.recv(size)

    def share(self) -> None:
        """Go on in a later turn of the hub if long loops have had their part of this one."""
        if self.bulk.is_used_up():
            self.bulk.pause()

    def _wait_for_peer(self, watcher: Any) -> None:
        self._wait(watcher)

    def send(self, data: bytes) -> None:
        """Send all of it. Raises ClientGone."""
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.unsent = len(data)
            raise ClientGone(*error.args) from error
        if sent < len(data):
            self._send_on([memoryview(data)[sent:]])

    def send_parts(self, *parts: bytes) -> None:
        """Send all of them, without a copy. Raises ClientGone."""
        rest = [memoryview(part) for part in parts if part]
        try:
            sent = self._sock.sendmsg(rest)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.unsent = sum(map(len, rest))
            raise ClientGone(*error.args) from error
        if rest := _after(rest, sent):
            self._send_on(rest)

    def _send_on(self, rest: list[memoryview]) -> None:
        while rest:
            self.unsent = sum(map(len, rest))
            self._wait_writable()
            try:
                rest = _after(rest, self._sock.sendmsg(rest))
            except BlockingIOError:
                continue
            except OSError as error:
                raise ClientGone(*error.args) from error
        self.unsent = 0

    def _wait_writable(self) -> None:
        """Wait until the peer has taken enough for more to be sent."""
        if self._writer is None:
            self._writer = self._loop.io(self._sock.fileno(), WRITE)
        wait = self.begin_wait(ConnectionPhase.WRITING, self.write_timeout)
        try:
            self._wait_for_peer(self._writer)
        finally:
            self.end_wait(wait)
        if self.cut_for:
            raise ClientGone(self.cut_for)

    def send_file(self, head: bytes, file: int, offset: int, count: int) -> int:
        """Send a head and a part of a file. MSG_MORE: they share their first packet.

        Args:
            head: what comes before.
            file: the descriptor.
            offset: in bytes, of the first that is sent.
            count: bytes that are wanted of it.

        Returns:
            How many of these there were.

        Raises:
            ClientGone: the peer does not take them.
        """
        try:
            sent = self._sock.send(head, MSG_MORE if count else 0)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.unsent = count
            raise ClientGone(*error.args) from error
        if sent < len(head):
            self._send_on([memoryview(head)[sent:]])
        end = offset + count
        while offset < end:
            self.unsent = end - offset
            step = self._send_file_piece(file, offset, min(end - offset, SENDFILE_SIZE))
            if step == 0:
                break
            offset += step
        self.unsent = 0
        return count - (end - offset)

    def _send_file_piece(self, file: int, offset: int, count: int) -> int:
        while True:
            try:
                sent = os.sendfile(self._sock.fileno(), file, offset, count)
            except BlockingIOError:
                self._wait_writable()
            except OSError as error:
                raise ClientGone(*error.args) from error
            else:
                # A fast peer must not keep the others waiting.
                self.share()
                return sent

    def watch_departure(self, gone: Callable[[], object]) -> Callable[[], None]:
        """Have gone() called, in the hub, when the peer ends its side while an application waits; return how to stop that.

        A peer that sends on (a body that is not read, a next request) is not watched any more: sending will tell.
        """
        watcher = self._loop.io(self._sock.fileno(), READ)
        watcher.start(self._look_for_end, watcher, gone)

        def stop() -> None:
            watcher.stop()
            watcher.close()

        return stop

    def _look_for_end(self, watcher: Any, gone: Callable[[], object]) -> None:
        """[hub] There is something to receive, or the end."""
        watcher.stop()
        try:
            ended = not self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            watcher.start(self._look_for_end, watcher, gone)
            return
        except OSError:
            ended = True
        if ended:
            gone()

    def quiet_for(self) -> float:
        """Return the seconds since the peer connected or sent anything, those in the kernel's queue too; 0 for unknown."""
        try:
            info = self._sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, LAST_DATA.size) if TCP_INFO else None
        except OSError:  # no TCP, or closed
            info = None
        return LAST_DATA.unpack(info)[0] / 1000 if info else 0.0

    def wake(self, reason: str, how: int = socket.SHUT_RDWR) -> None:
        """End what the connection is waiting for, from outside: its own greenlet then sees why and closes.

        Args:
            reason: for the log.
            how: as for ``socket.shutdown``.
        """
        self.cut_for = reason
        self.idle_until(NEVER)
        try:
            self._sock.shutdown(how)
        except OSError:
            # The peer was faster.
            return

    def forget_peer(self) -> None:
        """Have close() reset the connection and drop what was not sent."""
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
        except OSError:
            return

    def end_writing(self) -> bool:
        """Tell the peer that nothing more will come."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

    def forsake(self) -> None:
        """[a worker's child] Close the copy of the socket. Its watchers belong to a copied loop, which is never run."""
        self._sock.close()

    def close(self) -> None:
        """Close watchers and socket; everything waiting is over."""
        self.enter(ConnectionPhase.CLOSED)
        for watcher in (self._reader, self._writer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._accepted.close()


def _after(parts: list[memoryview], sent: int) -> list[memoryview]:
    """Return what is left of parts of which so many bytes went out."""
    for number, part in enumerate(parts):
        if sent < len(part):
            return [part[sent:], *parts[number + 1 :]]
        sent -= len(part)
    return []

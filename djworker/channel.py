"""A line to one other process: messages both ways, descriptors one way, and EOF as the sign of death.

Linux gives one SEQPACKET pair per child, so a message arrives whole or not at all; elsewhere a stream pair carries the same
lines. The raw ``_socket`` type is used throughout: gevent patches ``socket`` and ``os.close``, and in a mold, which never
runs the hub, a patched close would only be queued, the descriptor would leak into every fork, and EOF would never come.
"""

from __future__ import annotations

import _socket
import array
import sys
from typing import TYPE_CHECKING, NamedTuple

from djworker import messages

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Room for the longest message (a traceback of ``messages.TRACEBACK_LIMIT``, JSON-escaped) with a margin.
_PACKET = 256 * 1024
_FDS_PER_PACKET = 4
#: What a worker's view executes must not keep the arbiter's line open.
_CLOEXEC = getattr(_socket, "MSG_CMSG_CLOEXEC", 0)


class Received(NamedTuple):
    """What one reading of a channel brought."""

    messages: list[messages.Message]
    fds: list[int]
    eof: bool


class Channel:
    """[arbiter, mold, worker] One end of a socket pair between two processes."""

    def __init__(self, sock: _socket.socket) -> None:
        self._sock = sock
        self._partial = b""

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Two connected ends, both close-on-exec."""
        kind = _socket.SOCK_SEQPACKET if sys.platform == "linux" else _socket.SOCK_STREAM
        a, b = _socket.socketpair(_socket.AF_UNIX, kind, 0)
        for sock in (a, b):
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, _PACKET)
        return cls(a), cls(b)

    @classmethod
    def from_fd(cls, fd: int) -> Channel:
        """The end that was inherited as descriptor *fd*."""
        return cls(_socket.socket(fileno=fd))

    def fileno(self) -> int:
        """The descriptor, -1 once closed."""
        return self._sock.fileno()

    def set_blocking(self, blocking: bool) -> None:  # noqa: FBT001 - the name of the socket method it stands for
        """The arbiter and a worker never block on a channel; a mold does nothing else."""
        self._sock.setblocking(blocking)

    def send(self, message: messages.Message, fds: Sequence[int] = ()) -> bool:
        """Send one message; False when the other side is gone, or so stuck that its buffer is full.

        Neither is an error here: death is seen as EOF and as a child's exit, being stuck is found by a deadline.
        """
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._sock.sendmsg([messages.encode(message)], ancillary)
        except OSError:
            return False
        return True

    def receive(self) -> Received:
        """One packet, decoded. On a non-blocking channel with nothing to read: no messages, no EOF."""
        fds = array.array("i")
        try:
            data, ancillary, _flags, _addr = self._sock.recvmsg(
                _PACKET, _socket.CMSG_SPACE(_FDS_PER_PACKET * fds.itemsize), _CLOEXEC
            )
        except BlockingIOError:
            return Received([], [], eof=False)
        except OSError:  # ECONNRESET: the peer died with unread data
            return Received([], [], eof=True)
        for level, kind, payload in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        *lines, self._partial = (self._partial + data).split(b"\n")
        return Received([_decode(line) for line in lines if line], list(fds), eof=not data)

    def close(self) -> None:
        """Close this end; the other side reads EOF once every copy is closed."""
        self._sock.close()

    def detach(self) -> int:
        """Give the descriptor away."""
        return self._sock.detach()


def _decode(line: bytes) -> messages.Message:
    """What is no message (its sender was newer, or cut it off) is told like one that is not known: the reader lives on."""
    try:
        return messages.decode(line)
    except (ValueError, TypeError):
        return messages.Unknown("garbled", {"line": line[:200].decode(errors="replace")})

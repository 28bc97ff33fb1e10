"""A line to one other process: messages both ways, descriptors one way, and EOF as the sign of death.

Linux gives one SEQPACKET pair per child, so a message arrives whole or not at all; elsewhere a stream pair carries the same
lines. The raw ``_socket`` type is used throughout: gevent patches ``socket`` and ``os.close``, and in a mold, which never
runs the hub, a patched close would only be queued, the descriptor would leak into every fork, and EOF would never come.
"""

from __future__ import annotations

import _socket
import array
import contextlib
import struct
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from djworker.ipc import messages

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Room for the longest message (a traceback of ``messages.TRACEBACK_LIMIT``, JSON-escaped) with a margin.
_PACKET: Final = 256 * 1024
_FDS_PER_PACKET: Final = 4
_INT_SIZE: Final = array.array("i").itemsize
#: Whether a message arrives whole or not at all, and with the kernel's word on who sent it.
_WHOLE: Final = sys.platform == "linux"
_SCM_CREDENTIALS: Final = 2  # linux/socket.h; not in the module ``socket``
_CREDENTIALS: Final = struct.Struct("iII")  # struct ucred: pid, uid, gid
_SO_PASSRIGHTS: Final = 83  # asm-generic/socket.h, since Linux 6.16
#: Characters of what is no message, for the log.
_SHOWN: Final = 200
#: What a worker's view executes must not keep the arbiter's line open.
_CLOEXEC: Final = getattr(_socket, "MSG_CMSG_CLOEXEC", 0)


class Received(NamedTuple):
    """What one reading of a channel brought.

    sender: who sent it, as the kernel says; None where it does not say. size: in bytes.
    """

    messages: list[messages.Message]
    fds: list[int]
    eof: bool
    sender: int | None = None
    size: int = 0


class Channel:
    """[arbiter, mold, worker] One end of a socket pair between two processes.

    A *guarded* end is the arbiter's. It may be root where the other side is not, so it takes no descriptors (to close one can
    block, as long as the other side likes), believes the kernel about who speaks, and reads one message from a packet.
    """

    def __init__(self, sock: _socket.socket, *, guarded: bool = False) -> None:
        self._sock = sock
        self._guarded = guarded
        self._partial = b""

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Two connected ends, both close-on-exec: the arbiter's, which is guarded, and its child's."""
        kind = _socket.SOCK_SEQPACKET if _WHOLE else _socket.SOCK_STREAM
        a, b = _socket.socketpair(_socket.AF_UNIX, kind, 0)
        for sock in (a, b):
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, _PACKET)
        if _WHOLE:
            a.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
            with contextlib.suppress(OSError):  # Linux 6.16; before that, descriptors are dropped as they come
                a.setsockopt(_socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)
        return cls(a, guarded=True), cls(b)

    @classmethod
    def from_fd(cls, fd: int, *, guarded: bool = False) -> Channel:
        """The end that was inherited as descriptor *fd*; ``guarded`` for the arbiter's."""
        return cls(_socket.socket(fileno=fd), guarded=guarded)

    def __repr__(self) -> str:
        return f"<Channel {self.fileno()}{' guarded' if self._guarded else ''}>"

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
        try:
            data, ancillary, flags, _addr = self._sock.recvmsg(_PACKET, self._room(), _CLOEXEC)
        except BlockingIOError:
            return Received([], [], eof=False)
        except OSError:  # ECONNRESET: the peer died with unread data
            return Received([], [], eof=True)
        sender = _sender(ancillary)
        if not data and sender is None:
            return Received([], [], eof=True)
        return Received(self._decode(data, flags), _descriptors(ancillary), False, sender, len(data))

    def peek(self) -> bytes | None:
        """The next packet, which stays unread; nothing at the end, None while there is none. Not for blocking channels."""
        try:
            return self._sock.recv(_PACKET, _socket.MSG_PEEK)
        except BlockingIOError:
            return None
        except OSError:  # closed here, or reset by a peer that died
            return b""

    def _room(self) -> int:
        """For what comes beside the bytes: the sender, which only the kernel writes, or descriptors."""
        if self._guarded:
            return _socket.CMSG_SPACE(_CREDENTIALS.size) if _WHOLE else 0
        return _socket.CMSG_SPACE(_FDS_PER_PACKET * _INT_SIZE)

    def _decode(self, data: bytes, flags: int) -> list[messages.Message]:
        if self._guarded and flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC):
            what = "descriptors come with it" if flags & _socket.MSG_CTRUNC else f"longer than {_PACKET} bytes"
            return [_garbled(what, data)]
        *lines, self._partial = (self._partial + data).split(b"\n")
        if self._guarded and _WHOLE:  # a packet is a message
            if self._partial or len(lines) != 1:
                self._partial = b""
                return [_garbled("a packet that is not one line", data)]
        elif len(self._partial) > _PACKET:
            partial, self._partial = self._partial, b""
            return [_garbled(f"longer than {_PACKET} bytes", partial)]
        return [_message(line) for line in lines if line]

    def close(self) -> None:
        """Close this end; the other side reads EOF once every copy is closed."""
        self._sock.close()

    def detach(self) -> int:
        """Give the descriptor away."""
        return self._sock.detach()


def _sender(ancillary: Sequence[tuple[int, int, bytes]]) -> int | None:
    for level, kind, payload in ancillary:
        if _WHOLE and level == _socket.SOL_SOCKET and kind == _SCM_CREDENTIALS:
            return int(_CREDENTIALS.unpack(payload)[0])
    return None


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % _INT_SIZE])
    return list(fds)


def _message(line: bytes) -> messages.Message:
    """What is no message is told of like one that is not known: what becomes of its sender is the reader's affair."""
    try:
        return messages.decode(line)
    except messages.NotAMessageError as error:
        return _garbled(str(error), line)


def _garbled(reason: str, data: bytes) -> messages.Garbled:
    return messages.Garbled(reason, data[:_SHOWN].decode(errors="replace"))

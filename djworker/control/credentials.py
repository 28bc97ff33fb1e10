"""Who is at the other end of a control socket, as the kernel says."""

from __future__ import annotations

import socket
import struct
from typing import Final

from djworker import process

__all__ = ["peer_uid"]

_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid


def peer_uid(sock: socket.socket) -> int:
    """Return the user id of the process that has connected, or that listens.

    Raises:
        OSError: the connection has ended.
    """
    if process.LINUX:
        option = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return int(_CREDENTIALS.unpack(option)[1])
    # LOCAL_PEERCRED (sys/un.h): struct xucred begins with its version and the user id.
    return int(struct.unpack("II", sock.getsockopt(0, 1, 8))[1])

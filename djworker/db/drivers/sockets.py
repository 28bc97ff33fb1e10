"""What is done to a connection's socket beside its client library."""

from __future__ import annotations

import _socket
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import gevent
from gevent import get_hub, socket

from djworker import process
from djworker.db.drivers.turns import at_most

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# gevent's `os.close` waits for a turn of the hub, which a fresh child has not got.
_close_now: Callable[[int], None] = process.unpatched("os", "close")

CLOSE_TIMEOUT: Final = (
    2.0  # seconds for the server to let go of a connection that said good-bye; PostgreSQL needs 1-5 ms
)

#: A peer whose host has died, or that a router has forgotten, is found out by the kernel alone: after two hours where the
#: connection waits for an answer, after a quarter of one where data was sent in vain. Seconds, a count, milliseconds (tcp(7)).
_DEAD_AFTER: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 60_000}


class Line(_socket.socket):
    """[worker] A descriptor of our own beside the client library's. Dropped without an end, it closes without a warning.

    The libraries give none either, and a connection whose set-up failed is dropped, not closed: closing could wait.
    """

    def __del__(self) -> None:
        self.close()


def mind_the_peer(fd: int) -> None:
    """Have the kernel find out within a minute that the peer is gone. What has been set is left as it is."""
    line, plain = _socket.socket(fileno=fd), _socket.socket()
    try:
        for name, value in _DEAD_AFTER.items():
            option = getattr(_socket, name, None)  # not every system has all of them
            with suppress(OSError):  # a Unix socket has none
                if option and _tcp(line, option) == _tcp(plain, option):
                    line.setsockopt(_socket.IPPROTO_TCP, option, value)
    finally:
        line.detach()
        plain.close()


def _tcp(line: _socket.socket, option: int) -> int:
    return line.getsockopt(_socket.IPPROTO_TCP, option)


def cut_loose(fd: int) -> None:
    """Put a dead end in the descriptor's place: what the client library still writes to it reaches no server.

    After a fork the socket is shared with the parent, and a good-bye from the child would end the parent's session.
    Closing the number instead would let a late finalizer write into whatever has taken it since.
    """
    with suppress(OSError):
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.dup2(null, fd, inheritable=False)
        finally:
            _close_now(null)


def read_to_end(line: socket.socket, seconds: float) -> None:
    """Throw away what comes until the other side closes, or the time is up."""
    with suppress(OSError), at_most(seconds):
        while line.recv(4096):
            pass


@contextmanager
def until_gone(fd: int, seconds: float = CLOSE_TIMEOUT) -> Iterator[None]:
    """Close the connection inside; on the way out, wait until the server has closed its end too.

    Client libraries close at once, and the server counts the session until its process or thread has noticed. A pool
    that opens the next connection in between is above its bound as the server sees it.
    """
    if gevent.getcurrent() is get_hub():
        yield
        return
    line = socket.socket(fileno=os.dup(fd))
    try:
        yield
        read_to_end(line, seconds)
    finally:
        line.close()

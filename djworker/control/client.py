"""One conversation with a server: connect, ask, read the lines of the answer."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, Self

from djworker import process
from djworker.control.credentials import peer_uid
from djworker.control.protocol import REPLY_LIMIT, Reply, Request, UnreadableLineError
from djworker.ipc.contract import READ_SIZE

__all__ = ["ControlConnection", "RefusedError", "UnreachableError", "connect"]

#: Seconds for a server to take a connection, and to say the next line of an answer. It answers within 2; a machine may be busy.
TIMEOUT: Final = 10.0
#: Seconds until a server's queue of connections is looked at again.
QUEUE_PAUSE: Final = 0.02


class UnreachableError(Exception):
    """The server does not take a connection, or does not answer; the text says what happened."""


class RefusedError(Exception):
    """The server has refused, or failed; ``fields`` has all that it said."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__(str(fields.get("reason", "refused, without a reason")))
        self.fields = fields


def connect(address: str, timeout: float) -> socket.socket:
    """Connect to a unix socket, also where many others do at the same time.

    Args:
        address: its path, or @ and the name of an abstract one.
        timeout: seconds, for this and for each step that follows.

    Raises:
        OSError: nothing listens there, or the server has not taken the connection in time.
    """
    target = b"\0" + os.fsencode(address[1:]) if address.startswith("@") else os.fsencode(address)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        _join_queue(sock, target, time.monotonic() + timeout)
    except OSError:
        sock.close()
        raise
    return sock


def _join_queue(sock: socket.socket, target: bytes, deadline: float) -> None:
    """Connect; where the queue is full, connect(2) does not wait for room if the socket has a time limit."""
    while True:
        try:
            sock.connect(target)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(QUEUE_PAUSE)
        else:
            return


class ControlConnection:
    """[client] A connection to one server.

    Args:
        address: path of a unix socket, or @ and the name of an abstract one.
        timeout: seconds to wait for the next line.

    Raises:
        UnreachableError: no server listens there.
    """

    def __init__(self, address: str, timeout: float = TIMEOUT) -> None:
        self.address = address
        self.timeout = timeout
        self._rest = b""
        try:
            self._sock = connect(address, timeout)
        except OSError as error:
            raise UnreachableError(f"{address}: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the conversation."""
        self._sock.close()

    @property
    def owner(self) -> int | None:
        """User id of the server, as the kernel says; None where it does not say."""
        return peer_uid(self._sock) if process.LINUX else None

    def send(self, verb: str, arguments: Mapping[str, Any] | None = None) -> None:
        """Ask. A server that has refused already has closed the connection; its reason is read all the same.

        Args:
            verb: one of ``control.verbs``.
            arguments: the verb's.
        """
        try:
            self._sock.sendall(Request(verb, arguments or {}).encode())
        except OSError:
            return

    def replies(self, timeout: float | None = None) -> Iterator[Reply]:
        """Read the lines of an answer up to the last.

        Args:
            timeout: seconds for the whole answer; without it, for each line.

        Raises:
            UnreachableError: the connection, or the time, has ended before.
            RefusedError: the last line is a refusal.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            reply = self._next(deadline)
            if reply.kind == "refused":
                raise RefusedError(reply.fields)
            yield reply
            if reply.is_last:
                return

    def ask(
        self, verb: str, arguments: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> Iterator[Reply]:
        """Ask, and read the answer.

        Args:
            verb: one of ``control.verbs``.
            arguments: the verb's.
            timeout: seconds for the whole answer; without it, for each line.

        Raises:
            UnreachableError: the connection, or the time, has ended before.
            RefusedError: the last line is a refusal.
        """
        self.send(verb, arguments)
        yield from self.replies(timeout)

    def _next(self, deadline: float | None) -> Reply:
        while b"\n" not in self._rest:
            left = self.timeout if deadline is None else deadline - time.monotonic()
            self._rest += self._receive(left)
            if len(self._rest) > REPLY_LIMIT:
                raise UnreachableError(f"{self.address}: a line of more than {REPLY_LIMIT} bytes")
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            return Reply.decode(line)
        except UnreadableLineError as error:
            raise UnreachableError(f"{self.address}: {error}") from error

    def _receive(self, left: float) -> bytes:
        self._sock.settimeout(max(left, 0.001))
        try:
            data = self._sock.recv(READ_SIZE)
        except TimeoutError:
            raise UnreachableError(f"{self.address}: the server does not answer") from None
        except OSError as error:
            raise UnreachableError(f"{self.address}: {error.strerror or error}") from error
        if not data:
            raise UnreachableError(f"{self.address}: the server has ended the connection")
        return data

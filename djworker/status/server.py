"""A small HTTP server for a handful of questions: one thread, one answer for each connection, every one with a deadline.

It is asked by balancers and by Prometheus, and stands on a port that any client may flood. So it holds a bounded number of
connections, and where one more comes, the oldest goes: that one has had the most time.
"""

from __future__ import annotations

import logging
import selectors
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

from djworker import log
from djworker.ipc.contract import END_OF_HEAD

__all__ = ["StatusAnswer", "StatusServer"]

logger = logging.getLogger("djworker.status")

#: Connections at once. Balancers and monitors are some ten.
MOST_CONNECTIONS: Final = 128
#: Connections that are taken in one turn, so that a flood does not keep those from their answer that were taken before.
ACCEPTS: Final = 32
#: Seconds from the first byte to the last.
TIMEOUT: Final = 5.0
#: Bytes of a request's head.
MOST_HEAD: Final = 16_384
_READ: Final = 16_384


class StatusAnswer(NamedTuple):
    """What is sent back."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class Handler(Protocol):
    """What answers."""

    def __call__(self, path: str, query: str, fields: Mapping[str, str]) -> StatusAnswer:
        """Answer a question. fields: of its head, their names in small letters."""

    def begin(self) -> None:
        """Questions follow that were all asked before: they may have the same answer."""


class _Connection:
    """[status] One client."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.deadline = deadline
        self.received = b""
        self.unsent = b""


class StatusServer:
    """[status] The connections, and the selector that they wait in."""

    def __init__(self, listeners: Sequence[socket.socket], handle: Handler) -> None:
        """Args: sockets that listen, and what answers."""
        self._handle = handle
        self._selector = selectors.DefaultSelector()
        #: Whose question is complete.
        self._asking: list[_Connection] = []
        #: In the order of their deadlines.
        self._connections: dict[_Connection, None] = {}
        for sock in listeners:
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ)

    def watch(self, fd: int, call: Callable[[], None]) -> None:
        """Call when a descriptor is readable."""
        self._selector.register(fd, selectors.EVENT_READ, call)

    def turn(self) -> None:
        """Wait for something to do, and do it."""
        for key, _mask in self._selector.select(self._time_left()):
            if isinstance(key.data, _Connection):
                if key.data in self._connections:  # else it went for another one in this turn
                    self._serve(key.data)
            elif key.data is not None:
                key.data()
            elif isinstance(key.fileobj, socket.socket):
                self._accept(key.fileobj)
        self._answer_all()
        now = time.monotonic()
        while self._connections and next(iter(self._connections)).deadline <= now:
            self._end(next(iter(self._connections)))

    def _time_left(self) -> float | None:
        if not self._connections:
            return None
        return max(0.0, next(iter(self._connections)).deadline - time.monotonic())

    def _accept(self, listener: socket.socket) -> None:
        for _number in range(ACCEPTS):
            try:
                sock, _address = listener.accept()
            except OSError:  # none is left; or the client has gone, or descriptors are short
                return
            sock.setblocking(False)
            if len(self._connections) >= MOST_CONNECTIONS:
                self._end(next(iter(self._connections)))
            connection = _Connection(sock, time.monotonic() + TIMEOUT)
            self._connections[connection] = None
            self._selector.register(sock, selectors.EVENT_READ, connection)
            self._serve(connection)

    def _serve(self, connection: _Connection) -> None:
        try:
            if connection.unsent:
                self._send(connection)
            else:
                self._receive(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._end(connection)

    def _receive(self, connection: _Connection) -> None:
        data = connection.sock.recv(_READ)
        connection.received += data
        if END_OF_HEAD in connection.received:
            self._selector.modify(connection.sock, selectors.EVENT_WRITE, connection)
            self._asking.append(connection)
        elif not data or len(connection.received) > MOST_HEAD:
            self._end(connection)

    def _answer_all(self) -> None:
        if self._asking:
            self._handle.begin()
        for connection in self._asking:
            if connection in self._connections:
                connection.unsent = self._answer(connection.received)
                self._serve(connection)
        self._asking.clear()

    def _send(self, connection: _Connection) -> None:
        sent = connection.sock.send(connection.unsent)
        connection.unsent = connection.unsent[sent:]
        if not connection.unsent:
            self._end(connection)

    def _end(self, connection: _Connection) -> None:
        del self._connections[connection]
        self._selector.unregister(connection.sock)
        connection.sock.close()

    def _answer(self, received: bytes) -> bytes:
        line, *lines = received.partition(END_OF_HEAD)[0].decode("latin-1").split("\r\n")
        words = line.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _message(StatusAnswer(HTTPStatus.BAD_REQUEST, b"not a request\n"))
        if words[0] not in ("GET", "HEAD"):
            return _message(StatusAnswer(HTTPStatus.METHOD_NOT_ALLOWED, b"GET and HEAD only\n"))
        path, _, query = words[1].partition("?")
        fields = {name.strip().lower(): value.strip() for name, _, value in (text.partition(":") for text in lines)}
        try:
            answer = self._handle(path, query, fields)
        except Exception:  # noqa: BLE001 - one question that cannot be answered must not end the process
            log.event(logger, logging.ERROR, "status_failed", f"no answer to {path}", exc_info=True)
            answer = StatusAnswer(HTTPStatus.INTERNAL_SERVER_ERROR, b"it could not be answered: see the log\n")
        return _message(answer, with_body=words[0] == "GET")


def _message(answer: StatusAnswer, *, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (answer.body if with_body else b"")

"""A client that speaks bytes, so that it can misbehave."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Self

#: Seconds after which a test has failed; nothing takes so long.
PATIENCE = 20.0
HOST = b"Host: test.example\r\n"


class Answer(NamedTuple):
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes
    head: bytes


class Broken(Exception):
    """The server ended the connection within an answer."""


class Client:
    """One connection."""

    def __init__(self, address: Any, receive_buffer: int = 0, source: str = "") -> None:
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.socket.bind((source, 0))
        self.socket.settimeout(PATIENCE)
        self.socket.connect(address if isinstance(address, str) else ("127.0.0.1", address))
        self.received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def get(self, path: str, fields: bytes = b"", method: bytes = b"GET") -> Answer:
        self.send(method + b" " + path.encode() + b" HTTP/1.1\r\n" + HOST + fields + b"\r\n")
        return self.answer(method)

    def post(self, path: str, body: bytes, fields: bytes = b"") -> Answer:
        head = b"POST " + path.encode() + b" HTTP/1.1\r\n" + HOST + fields
        self.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return self.answer()

    def answer(self, method: bytes = b"GET") -> Answer:
        """Receive one answer to its end."""
        head = self.until(b"\r\n\r\n")
        status, *lines = head[:-4].decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        code = int(status.split(" ")[1])
        assert status.startswith("HTTP/1.1 ")
        assert len(headers) == len(lines), f"a field is there twice: {lines}"
        if code == 100:
            return Answer(code, headers, b"", head)
        if method == b"HEAD" or code in {204, 304}:
            return Answer(code, headers, b"", head)
        assert not {"content-length", "transfer-encoding"} <= headers.keys()
        if headers.get("transfer-encoding") == "chunked":
            body = self.chunks()
        elif "content-length" in headers:
            body = self.exactly(int(headers["content-length"]))
        else:
            assert headers["connection"] == "close"
            body = self.rest()
        return Answer(code, headers, body, head)

    def chunks(self) -> bytes:
        blocks = []
        while size := int(self.until(b"\r\n"), 16):
            blocks.append(self.exactly(size))
            assert self.exactly(2) == b"\r\n"
        assert self.exactly(2) == b"\r\n"
        return b"".join(blocks)

    def more(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise Broken(self.received)
        self.received += data

    def until(self, end: bytes) -> bytes:
        while end not in self.received:
            self.more()
        found, _, self.received = self.received.partition(end)
        return found + end

    def exactly(self, size: int) -> bytes:
        blocks = [self.received[:size]]
        self.received = self.received[size:]
        missing = size - len(blocks[0])
        while missing:
            data = self.socket.recv(min(missing, 1 << 20))
            if not data:
                raise Broken(b"".join(blocks))
            blocks.append(data)
            missing -= len(data)
        return b"".join(blocks)

    def rest(self) -> bytes:
        """Receive to the end of the connection, which may not be a reset."""
        while data := self.socket.recv(65_536):
            self.received += data
        found, self.received = self.received, b""
        return found

    def closed(self) -> bool:
        """Wait for the end of the connection; nothing more may come."""
        try:
            return self.rest() == b""
        except ConnectionResetError:
            return True

    def reset(self) -> bool:
        """Wait for the end of the connection, and say whether it was a reset."""
        try:
            self.rest()
        except ConnectionResetError:
            return True
        return False


def eventually(condition: Callable[[], object], what: str = "") -> None:
    """Wait until a condition holds; fail when it does not in time."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"never: {what or condition}"
        time.sleep(0.01)

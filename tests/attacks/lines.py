"""What the scripts have in common: connections, and bytes that go out as fast as they are taken."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable

HOST = b"Host: test.example\r\n"
GET = b"GET %b HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST %b HTTP/1.1\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
#: A killed process's connections are reset, and what was not sent is dropped: a server would work on megabytes of tiny chunks
#: for seconds after the attack.
LINGER_OFF = struct.pack("ii", 1, 0)


def connect(port: int, receive_buffer: int = 0, send_buffer: int = 0) -> socket.socket:
    """Open a connection."""
    sock = socket.socket()
    if send_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(20)
    sock.connect(("127.0.0.1", port))
    return sock


def flood(port: int, head: bytes, block: bytes, send_buffer: int = 0) -> None:
    """Send a block again and again on one connection, as fast as it is taken; read what comes; begin anew at the end."""
    while True:
        with contextlib.suppress(OSError), connect(port, send_buffer=send_buffer) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
            sock.sendall(head)
            sock.setblocking(False)
            _exchange(sock, block)


def _exchange(sock: socket.socket, block: bytes) -> None:
    rest = memoryview(block)
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while True:
            for _, events in selector.select():
                if events & selectors.EVENT_READ and not sock.recv(1 << 20):
                    return
                if events & selectors.EVENT_WRITE:
                    rest = rest[sock.send(rest) :] or memoryview(block)


def swallow(port: int, request: bytes) -> None:
    """Ask, and read as fast as possible; again when it ends."""
    buffer = bytearray(1 << 20)
    while True:
        with contextlib.suppress(OSError), connect(port) as sock:
            sock.sendall(request)
            while sock.recv_into(buffer):
                pass


def crowd(port: int, count: int, head: bytes, pieces: Iterable[bytes] = (), pause: float = 0.5) -> None:
    """Open many connections, send a head on each and then a piece now and then; reopen those that end."""
    pieces = list(pieces)
    socks: list[socket.socket] = []
    while True:
        while len(socks) < count:
            sock = connect(port, receive_buffer=4096)
            sock.sendall(head)
            sock.setblocking(False)
            socks.append(sock)
        time.sleep(pause)
        for sock in list(socks):
            try:
                for piece in pieces:
                    sock.send(piece)
            except BlockingIOError:
                continue
            except OSError:
                socks.remove(sock)
                sock.close()


def main(attack: Callable[..., None]) -> None:
    """Run an attack: PORT, and numbers that it takes."""
    with contextlib.suppress(KeyboardInterrupt):
        attack(*map(int, sys.argv[1:]))

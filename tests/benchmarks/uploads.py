"""Large uploads, a fixed number of them.

``wrk`` counts what is answered within its time. An upload of 100 MiB takes a second or more: the few that count would pay for
what is unfinished at the end, and on a busy machine none is finished.
"""

from __future__ import annotations

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from urllib.parse import SplitResult, urlsplit

from tests.benchmarks.wrk import Load

SIZE = 100 << 20
BLOCK = bytes(1 << 20)
#: Seconds that a client waits for the server to take or to say something.
PATIENCE = 120.0
FORM = "/form"
PROLOGUE = b'--bound\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n\r\n'
EPILOGUE = b"\r\n--bound--\r\n"


def run(url: str, connections: int, each: int) -> Load:
    """Upload, with so many clients that each do it so often, and wait for every answer."""
    began = time.monotonic()
    with ThreadPoolExecutor(connections) as clients:
        found = list(chain(*clients.map(_client, repeat(url, connections), repeat(each))))
    seconds = time.monotonic() - began
    lasted = sorted(taken for taken, _ in found)
    good = sum(right for _, right in found)
    return Load(
        requests=good,
        seconds=seconds,
        rate=good / seconds,
        p50=lasted[len(lasted) // 2],
        p99=lasted[-1],
        bad_answers=len(found) - good,
        socket_errors=0,
        timeouts=0,
    )


def _client(url: str, each: int) -> list[tuple[float, bool]]:
    """For each upload its seconds, and whether it was answered with its size."""
    return [_upload(urlsplit(url)) for _ in range(each)]


def _upload(url: SplitResult) -> tuple[float, bool]:
    began = time.monotonic()
    with socket.create_connection((url.hostname, url.port), PATIENCE) as sock:
        _send(sock, url.path)
        right = _answer(sock) == b"%d" % SIZE
    return time.monotonic() - began, right


def _send(sock: socket.socket, path: str) -> None:
    before, after = (PROLOGUE, EPILOGUE) if path == FORM else (b"", b"")
    kind = "multipart/form-data; boundary=bound" if path == FORM else "application/octet-stream"
    length = len(before) + SIZE + len(after)
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    sock.sendall(head.encode() + before)
    for _ in range(SIZE // len(BLOCK)):
        sock.sendall(BLOCK)
    sock.sendall(after)


def _answer(sock: socket.socket) -> bytes:
    """Return the content of an answer with the status 200 and a length; nothing for any other."""
    data = b""
    while b"\r\n\r\n" not in data and (more := sock.recv(65_536)):
        data += more
    head, _, content = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if length is None or not re.match(rb"HTTP/1\.[01] 200 ", head):
        return b""
    while len(content) < int(length[1]) and (more := sock.recv(65_536)):
        content += more
    return content

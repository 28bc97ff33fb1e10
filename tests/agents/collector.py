"""Stands in for the services on the Internet that take reports: over HTTP, and over Scout's own protocol."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseServer, StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any

#: What they all expect of an answer: LaunchDarkly's flags, Unleash's features, Logfire's project.
_ANSWER = json.dumps(
    {
        "flags": {},
        "segments": {},
        "version": 1,
        "features": [],
        "project_name": "shop",
        "project_url": "http://localhost/",
    }
).encode()


class Collector(ThreadingHTTPServer):
    """It keeps what it is sent."""

    daemon_threads = True

    def handle_error(self, *_args: Any) -> None:
        """A worker was killed while it reported."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.bodies: list[bytes] = []

    def has(self, text: str) -> bool:
        """Whether this was reported."""
        return any(text.encode() in body for body in self.bodies)

    def count(self, text: str) -> int:
        """How many reports have it."""
        return sum(text.encode() in body for body in self.bodies)


class ScoutCollector(ThreadingTCPServer):
    """The core agent of Scout."""

    daemon_threads = allow_reuse_address = True
    has = Collector.has

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _TakeScout)
        self.bodies: list[bytes] = []


class _Take(BaseHTTPRequestHandler):
    server: Collector

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(_ANSWER)))
        self.end_headers()
        self.wfile.write(_ANSWER)

    def do_POST(self) -> None:
        body = self._body()
        packed = self.headers.get("Content-Encoding") in ("gzip", "deflate")
        self.server.bodies.append(zlib.decompress(body, 32 + zlib.MAX_WBITS) if packed else body)
        self.do_GET()

    do_PUT = do_POST  # noqa: N815 - the server's own form

    def _body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


class _TakeScout(StreamRequestHandler):
    server: ScoutCollector

    def handle(self) -> None:
        with suppress(ConnectionError):  # of a worker that was killed
            while size := self.rfile.read(4):
                self.server.bodies.append(self.rfile.read(int.from_bytes(size, "big")))
                self.wfile.write((2).to_bytes(4, "big") + b"{}")


@contextmanager
def listening(server: BaseServer) -> Iterator[None]:
    """It takes reports meanwhile."""
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()

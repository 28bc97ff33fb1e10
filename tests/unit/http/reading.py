"""The receiving side without sockets: pieces of bytes in, requests or a refusal out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from djworker.http.body import Body, ChunkedBody, LengthBody
from djworker.http.receive_buffer import HeadLimits, ReceiveBuffer
from djworker.http.request import HeadParser, ProtocolError, RequestHead

BASE = {"SERVER_PROTOCOL": "HTTP/1.1", "QUERY_STRING": ""}


class Limits(NamedTuple):
    """The limit_request_* options."""

    line: int = 200
    fields: int = 8
    field: int = 100
    body: int = 1000


class Read(NamedTuple):
    """One request."""

    head: RequestHead
    environ: dict[str, Any]
    body: bytes


class Outcome(NamedTuple):
    """What came of a stream of bytes. status: 0 if nothing was refused. unfinished: a request has begun and not ended."""

    requests: list[Read]
    status: int
    reason: str
    unfinished: bool


class Reader:
    """One connection's receiving side."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.head_limits = HeadLimits(line=limits.line, fields=limits.fields, field=limits.field)
        self.parser = HeadParser(
            max_line=limits.line, max_fields=limits.fields, max_field=limits.field, max_body=limits.body
        )
        self.buffer = ReceiveBuffer()
        self.requests: list[Read] = []
        self.current: tuple[RequestHead, dict[str, Any], Body, list[bytes]] | None = None

    def feed(self, piece: bytes) -> None:
        self.buffer.feed(piece)
        while (self.buffer.data or self.current) and self.step():
            pass

    def step(self) -> bool:
        if self.current is None:
            raw = self.buffer.take_head(self.head_limits)
            if raw is None:
                return False
            head, environ = RequestHead(), dict(BASE)
            self.parser.parse(raw, environ, head)
            body = ChunkedBody(self.limits.body) if head.chunked else LengthBody(head.length)
            self.current = (head, environ, body, [])
            return True
        head, environ, reading, blocks = self.current
        block = reading.take(self.buffer) if self.buffer.data and not reading.done else b""
        blocks.append(block)
        if reading.done:
            self.requests.append(Read(head, environ, b"".join(blocks)))
            self.current = None
            return True
        return bool(block)


def read(pieces: Iterable[bytes], limits: Limits | None = None) -> Outcome:
    """Feed pieces until they end, or are refused."""
    reader = Reader(limits or Limits())
    status, reason = 0, ""
    try:
        for piece in pieces:
            reader.feed(piece)
    except ProtocolError as error:
        status, reason = error.status, error.reason
    return Outcome(reader.requests, status, reason, bool(reader.buffer.data) or reader.current is not None)


def bytewise(data: bytes) -> list[bytes]:
    """Return the most pieces there can be."""
    return [data[index : index + 1] for index in range(len(data))]

"""Request bodies: where they end, and what is in them.

llhttp does not see bodies: see ``protocol``. Chunked coding is RFC 9112 7.1, without any of its leniencies.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Protocol

from djworker.http.grammar import TOKEN_PATTERN
from djworker.http.receive_buffer import ReceiveBuffer
from djworker.http.request import ProtocolError
from djworker.ipc.contract import READ_SIZE

__all__ = ["Body", "ChunkedBody", "LengthBody"]

TOKEN: Final = TOKEN_PATTERN.encode()
QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
EXTENSION: Final = rb"[ \t]*;[ \t]*" + TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + TOKEN + rb"|" + QUOTED + rb"))?"
#: 2**63 has 16 hexadecimal digits.
CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,15})((?:" + EXTENSION + rb")*)")
TRAILER: Final = re.compile(TOKEN + rb":[\t \x21-\x7e\x80-\xff]*")

#: Chunk lines: size and extensions. Clients use no extensions; attackers do, to have the server read much for little
#: (CVE-2023-39326), so all of a body's together have a limit too.
MAX_CHUNK_LINE: Final = 256
MAX_EXTENSIONS: Final = 4096
MAX_TRAILERS: Final = 8192
#: Steps of the parser, three for a chunk, until others have their turn: 64 KiB of chunks of one byte took 50 ms.
STEPS_AT_ONCE: Final = 256


class Body(Protocol):
    """[worker] The part of a request after its head."""

    @property
    def done(self) -> bool:
        """The end has been reached."""

    def wanted(self, most: int) -> int:
        """Bytes to receive at once, so that no more than needed is read ahead. most: of content, for the application."""

    @property
    def left(self) -> int | None:
        """Bytes to come, None for unknown."""

    def take(self, buffer: ReceiveBuffer) -> bytes:
        """Return content that is in the buffer; nothing if more has to be received, or at the end."""

    def take_received(self, data: bytes, buffer: ReceiveBuffer) -> bytes:
        """Return the content of what was received behind all that the buffer has; as take() does."""


class LengthBody:
    """[worker] A body of known length."""

    __slots__ = ("left",)

    def __init__(self, length: int) -> None:
        self.left = length

    @property
    def done(self) -> bool:
        """The end has been reached."""
        return self.left == 0

    def wanted(self, most: int) -> int:
        """Bytes to receive at once: never into the next request."""
        return min(self.left, most, READ_SIZE)

    def take(self, buffer: ReceiveBuffer) -> bytes:
        """Return content that is in the buffer."""
        data = buffer.take(min(self.left, READ_SIZE))
        self.left -= len(data)
        return data

    def take_received(self, data: bytes, buffer: ReceiveBuffer) -> bytes:
        """Return what was received as it is, where nothing was in the buffer: it is the content."""
        if buffer.data:
            buffer.feed(data)
            return self.take(buffer)
        self.left -= len(data)
        return data


class ChunkedBody:
    """[worker] A body in chunks.

    Its trailers are checked and dropped: merged into the header, a client could add fields that a proxy removed.
    max_body: in bytes, 0 for no limit.
    """

    __slots__ = ("_chunk", "_extensions", "_max_body", "_step", "_total", "_trailers", "done")

    left = None

    def __init__(self, max_body: int = 0) -> None:
        self.done = False
        self._max_body = max_body
        self._chunk = 0
        self._total = 0
        self._extensions = 0
        self._trailers = 0
        self._step: Step = ChunkedBody._size

    def wanted(self, most: int) -> int:  # noqa: ARG002 - how much of what comes is content is not known
        """Bytes to receive at once."""
        return READ_SIZE

    def take(self, buffer: ReceiveBuffer) -> bytes:
        """Return the content of chunks that are in the buffer: of all of them unless they are tiny. Raises ProtocolError."""
        parts: list[bytes] = []
        steps = 0
        while not self.done and buffer.data and self._step(self, buffer, parts):
            steps += 1
            if steps >= STEPS_AT_ONCE and parts:
                break
        return b"".join(parts)

    def take_received(self, data: bytes, buffer: ReceiveBuffer) -> bytes:
        """Return the content of what was received, as take() does."""
        buffer.feed(data)
        return self.take(buffer)

    def _size(self, buffer: ReceiveBuffer, _: list[bytes]) -> bool:
        line = buffer.take_line(MAX_CHUNK_LINE)
        if line is None:
            return False
        match = CHUNK.fullmatch(line)
        if match is None:
            raise ProtocolError(400, "invalid chunk size")
        self._extensions += len(match[2])
        if self._extensions > MAX_EXTENSIONS:
            raise ProtocolError(400, "too many chunk extensions")
        self._chunk = int(match[1], 16)
        self._total += self._chunk
        if self._max_body and self._total > self._max_body:
            raise ProtocolError(413, "body too long")
        self._step = ChunkedBody._content if self._chunk else ChunkedBody._trailer
        return True

    def _content(self, buffer: ReceiveBuffer, parts: list[bytes]) -> bool:
        data = buffer.take(self._chunk)
        self._chunk -= len(data)
        parts.append(data)
        if not self._chunk:
            self._step = ChunkedBody._end
        return True

    def _end(self, buffer: ReceiveBuffer, _: list[bytes]) -> bool:
        line = buffer.take_line(0)
        if line is None:
            return False
        self._step = ChunkedBody._size
        return True

    def _trailer(self, buffer: ReceiveBuffer, _: list[bytes]) -> bool:
        line = buffer.take_line(MAX_TRAILERS)
        if line is None:
            return False
        self._trailers += len(line)
        if self._trailers > MAX_TRAILERS:
            raise ProtocolError(431, "trailers too long")
        if not line:
            self.done = True
        elif not TRAILER.fullmatch(line):
            raise ProtocolError(400, "invalid trailer")
        return True


Step = Callable[[ChunkedBody, ReceiveBuffer, list[bytes]], bool]

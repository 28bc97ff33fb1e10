"""Bytes that a connection has received and that are not used yet."""

from __future__ import annotations

import re
from typing import Final

from djworker.http.grammar import TOKEN_BYTES
from djworker.http.request import ProtocolError
from djworker.ipc.contract import END_OF_HEAD

__all__ = ["CR", "HeadLimits", "ReceiveBuffer"]

CR: Final = 13
CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?=[^\n])|(?<!\r)\n")


class HeadLimits:
    """[worker] The limit_request_* options of a head, in bytes and fields."""

    __slots__ = ("field", "fields", "line")

    def __init__(self, *, line: int, fields: int, field: int) -> None:
        self.line = line
        self.fields = fields
        self.field = field


class ReceiveBuffer:
    """[worker] A connection's receive buffer. It copies only where a message came in several pieces.

    data is false when, and only when, nothing is there.
    """

    __slots__ = ("_lines", "_next_line", "_position", "_searched", "_skipped", "data")

    def __init__(self) -> None:
        self.data: bytes | bytearray = b""
        self._position = 0
        # Of an incomplete head: bytes in which its end is not, bytes in complete lines, and the number of these.
        self._searched = 0
        self._next_line = 0
        self._lines = 0
        self._skipped = False

    def __len__(self) -> int:
        return len(self.data) - self._position

    def feed(self, data: bytes) -> None:
        """Append what was received."""
        if not self.data:
            self.data = data
            return
        if self._position or not isinstance(self.data, bytearray):
            self.data = bytearray(memoryview(self.data)[self._position :])
            self._position = 0
        self.data += data

    def first_line(self) -> bytes:
        """Return the first line if it has come as a whole, for the log."""
        line, end, _ = bytes(self.data[self._position :]).partition(b"\r\n")
        return line if end else b""

    def take_head(self, limits: HeadLimits) -> bytes | None:
        """Return the next request's head with its empty line, None while it is incomplete.

        Raises ProtocolError as soon as an incomplete head exceeds a limit; the limits of complete ones are the parser's.
        """
        data = self.data
        if data[self._position] == CR and not self._searched:
            # RFC 9112 2.2: "SHOULD ignore at least one empty line (CRLF) received prior to the request-line". One.
            if not self._skip_empty_line():
                return None
            data = self.data
        start = self._position
        end = data.find(END_OF_HEAD, start + self._searched)
        if end < 0:
            self._check_incomplete(limits)
            self._searched = max(len(self) - 3, 1)
            return None
        self._searched = self._next_line = self._lines = 0
        self._skipped = False
        return self.take(end + 4 - start)

    def _skip_empty_line(self) -> bool:
        """Step over CR LF; say whether a head can begin."""
        if len(self) == 1:
            return False
        if self._skipped or self.take(2) != b"\r\n" or (self.data and self.data[self._position] == CR):
            raise ProtocolError(400, "no request line")
        self._skipped = True
        return bool(self.data)

    def _check_incomplete(self, limits: HeadLimits) -> None:
        data, start = self.data, self._position
        # A TLS ClientHello or binary noise on a plain port is refused at its first byte.
        if data[start] not in TOKEN_BYTES:
            raise ProtocolError(400, "not HTTP")
        # Complete heads leave this to llhttp. Incomplete ones might never be complete because of it.
        if CONTROL.search(data, start + self._searched):
            raise ProtocolError(400, "control character in the head")
        line = self._next_line
        while (end := data.find(b"\n", start + line)) >= 0:
            self._check_line(end - 1 - start - line, limits)
            line = end + 1 - start
            self._lines += 1
        self._next_line = line
        # One more, because the line's CR may be the last byte.
        self._check_line(len(self) - line - 1, limits)
        if self._lines - 1 > limits.fields:
            raise ProtocolError(431, "too many header fields")

    def _check_line(self, length: int, limits: HeadLimits) -> None:
        if self._lines == 0:
            if length > limits.line:
                raise ProtocolError(414, "request line too long")
        elif length > limits.field:
            raise ProtocolError(431, "header field too long")

    def clear(self) -> None:
        """Forget all."""
        self.data, self._position = b"", 0

    def take(self, size: int) -> bytes:
        """Return and forget up to size bytes."""
        data, start = self.data, self._position
        end = start + size
        if end < len(data):
            self._position = end
            return bytes(data[start:end])
        self.data, self._position = b"", 0
        return bytes(data[start:] if start else data)

    def take_line(self, limit: int) -> bytes | None:
        """Return the next line without its CRLF, None while it is incomplete.

        limit: in bytes; beyond it, and for a bare CR or LF, ProtocolError is raised.
        """
        data, start = self.data, self._position
        end = data.find(b"\n", start, start + limit + 2)
        if end < 0:
            if len(data) - start >= limit + 2:
                raise ProtocolError(400, "line too long in a chunked body")
            return None
        if end == start or data[end - 1] != CR:
            raise ProtocolError(400, "bare LF in a chunked body")
        return self.take(end + 1 - start)[:-2]

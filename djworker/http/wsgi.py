"""PEP 3333: one request's side of the application, and how its answer is framed. No socket is touched here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from djworker.http.filewrapper import FileWrapper
from djworker.http.response import ResponseError, common_fields, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from djworker.http.protocol import RequestHead
    from djworker.http.response import Fields

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
    WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

__all__ = ["BodyError", "ClientGone", "Exchange", "Sink"]

CRLF: Final = b"\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
CLOSE: Final = b"Connection: close\r\n"
KEEP: Final = b"Connection: keep-alive\r\n"
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"


class ClientGone(OSError):
    """The client ended the connection, or was cut off, while it was being written to. Not a failure of the application."""


class BodyError(OSError):
    """The request's body cannot be read to its end. Applications see it from wsgi.input.

    An OSError, because Django turns that into UnreadablePostError.
    """


class Sink(Protocol):
    """[worker] Where an answer goes: a connection."""

    def send(self, data: bytes) -> None:
        """Send all of it. Raises ClientGone."""

    def send_file(self, head: bytes, file: int, offset: int, count: int) -> int:
        """Send a head and count bytes of an open file, and return how many there were. Raises ClientGone."""

    def may_persist(self) -> bool:
        """Can another request follow on this connection?"""


class Exchange:
    """[worker] One request and its answer.

    The application may keep a reference to start_response after the end; then nothing can be sent any more.
    """

    __slots__ = (
        "_chunked",
        "_fields",
        "_sink",
        "bodiless",
        "complete",
        "environ",
        "error",
        "finished",
        "head",
        "head_sent",
        "headers",
        "persists",
        "remaining",
        "sent",
        "started",
        "status",
    )

    def __init__(self, head: RequestHead, environ: dict[str, Any], sink: Sink, started: float) -> None:
        self.head = head
        self.environ = environ
        self._sink = sink
        self._fields: Fields | None = None
        self._chunked = False
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.head_sent = False
        self.bodiless = False
        self.persists = False
        self.complete = False
        # Bytes of the body that were sent, and that the announced length leaves; -1 where none was announced.
        self.sent = 0
        self.remaining = -1
        # Why the answer is not what the application wanted, for the log.
        self.error = ""
        self.started = started
        self.finished = 0.0

    # --- PEP 3333

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """Take status and fields; nothing is sent before the body begins."""
        if exc_info is not None:
            try:
                if self.head_sent and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._fields is not None:
            raise ResponseError("start_response was called twice, without exc_info")
        if self.complete:
            raise ResponseError("start_response was called after the request's end")
        fields = render(status, headers)
        self.status = status
        self.headers = headers
        self._fields = fields
        return self.write

    def write(self, data: bytes) -> None:
        """Send a block of the body, with the head before the first."""
        if self.complete:
            raise ResponseError("write() was called after the request's end")
        if not isinstance(data, bytes):
            raise ResponseError(f"the body is of {type(data).__name__}, not of bytes")
        if not data:
            return
        if self.head_sent:
            block = self._block(data)
        else:
            head = self._streaming_head()
            block = head + self._block(data)
        if block:
            self._sink.send(block)

    # --- the server's side

    def run(self, application: WSGIApplication) -> None:
        """Call the application, send its answer, and close it, whatever happens."""
        result = application(self.environ, self.start_response)
        try:
            self._deliver(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def _deliver(self, result: Iterable[bytes]) -> None:
        kind = type(result)
        if (kind is list or kind is tuple) and not self.head_sent:
            self._send_whole(_joined(result))
        elif isinstance(result, FileWrapper):
            self._send_file(result)
        elif getattr(result, "streaming", None) is False and not self.head_sent:
            # Django's HttpResponse holds all of its body, but does not say so in WSGI's terms.
            self._send_whole(_joined(result))
        else:
            self._stream(result)

    def _stream(self, blocks: Iterable[bytes]) -> None:
        for block in blocks:
            self.write(block)
            if self.bodiless:
                break
        self._finish()

    def _send_whole(self, body: bytes) -> None:
        """Send an answer that is there as a whole: one send, and always a length."""
        fields = self._started_fields()
        size = len(body)
        bodiless = self._plan(fields)
        length = fields.length
        if length < 0 and not self._forbids_length():
            length = size
        if bodiless:
            body = b""
        elif length != size:
            body = self._limited(body, length)
        head = self._head(fields, length)
        self.sent = len(body)
        self.complete = True
        self._sink.send(head + body)

    def _limited(self, body: bytes, length: int) -> bytes:
        """Fit a body to the length that the application announced; the connection is of no use afterwards."""
        self.persists = False
        self.error = f"the application announced {length} bytes and gave {len(body)}"
        return body[:length]

    def _send_file(self, file: FileWrapper) -> None:
        """Send a file by the kernel where it is a plain file, and by reading it where not."""
        fields = self._started_fields()
        plain = None if self.head_sent or self._plan(fields) else file.sendable()
        if plain is None:
            self._stream(file)
            return
        descriptor, offset, size = plain
        length = size if fields.length < 0 else fields.length
        if length > size:
            self.error = f"the application announced {length} bytes and gave {size}"
            self.persists = False
        head = self._head(fields, length)
        self.sent = self._sink.send_file(head, descriptor, offset, min(length, size))
        if self.sent < length:
            self.persists = False
        self.complete = True

    def _finish(self) -> None:
        if not self.head_sent:
            self._send_whole(b"")
            return
        self.complete = True
        if self._chunked:
            self._sink.send(LAST_CHUNK)
        elif self.remaining > 0 and not self.bodiless:
            self.error = f"the application announced {self.remaining} bytes more than it gave"
            self.persists = False

    def _started_fields(self) -> Fields:
        if self._fields is None:
            raise ResponseError("the application did not call start_response")
        return self._fields

    def _plan(self, fields: Fields) -> bool:
        """Settle what the method and the status decide; say whether the answer has no body."""
        code = self.status[:3]
        self.bodiless = self.head.method == "HEAD" or code in ("204", "304")
        self.persists = self.head.keep_alive and self._sink.may_persist()
        self.remaining = fields.length
        return self.bodiless

    def _forbids_length(self) -> bool:
        """RFC 9110 8.6: none in 204; in 304 it would be the length of what was not sent, which only the application knows."""
        return self.bodiless and self.status[:3] in ("204", "304")

    def _streaming_head(self) -> bytes:
        fields = self._started_fields()
        if not self._plan(fields) and fields.length < 0:
            # RFC 9112 6.1: no Transfer-Encoding to HTTP/1.0; there the end of the connection is the end of the body.
            self._chunked = self.head.minor == 1
            self.persists = self.persists and self._chunked
        return self._head(fields, fields.length)

    def _head(self, fields: Fields, length: int) -> bytes:
        self.head_sent = True
        parts = [fields.head]
        if length >= 0 and self.status[:3] != "204":
            parts.append(b"Content-Length: %d\r\n" % length)
        elif self._chunked:
            parts.append(CHUNKED)
        if not self.persists:
            parts.append(CLOSE)
        elif self.head.minor == 0:
            parts.append(KEEP)
        parts.append(common_fields(fields.meanings))
        parts.append(CRLF)
        return b"".join(parts)

    def _block(self, data: bytes) -> bytes:
        if self.bodiless:
            return b""
        if self._chunked:
            self.sent += len(data)
            return b"%x\r\n%b\r\n" % (len(data), data)
        if self.remaining >= 0:
            if len(data) > self.remaining:
                data = self._limited(data, self.remaining)
            self.remaining -= len(data)
        self.sent += len(data)
        return data


def _joined(blocks: Iterable[bytes]) -> bytes:
    try:
        return b"".join(blocks)
    except TypeError as error:
        raise ResponseError(f"the body is not of bytes: {error}") from error

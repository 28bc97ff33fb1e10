"""PEP 3333: one request's side of the application, and how its answer is framed. No socket is touched here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from djworker.http.filewrapper import FileWrapper
from djworker.http.request import RequestHead
from djworker.http.response import REQUEST_ID, ResponseError, common_fields, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
    WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

__all__ = ["ID_FIELD", "USUAL", "AnswerSink", "BodyError", "ClientGone", "Exchange"]

LAST_CHUNK: Final = b"0\r\n\r\n"
#: Bytes. A larger body is sent from where it is, in one system call with its head: to put both together would cost more.
JOINED: Final = 32_768
CLOSE: Final = "Connection: close\r\n"
KEEP: Final = "Connection: keep-alive\r\n"
ID_FIELD: Final = "X-Request-ID"
CHUNKED: Final = "Transfer-Encoding: chunked\r\n"
NO_FIELDS: Final[list[tuple[str, str]]] = []
#: RFC 9110 6.4.1: these have no content.
BODILESS: Final = frozenset({"204", "304"})
NO_CONTENT: Final = "204"
#: To compare with it takes a quarter of a look at the code.
USUAL: Final = "200 OK"


class ClientGone(OSError):
    """The client ended the connection, or was cut off, while it was being written to. Not a failure of the application."""


class BodyError(OSError):
    """The request's body cannot be read to its end. Applications see it from wsgi.input.

    An OSError, because Django turns that into UnreadablePostError.
    status: the code that the client is answered with.
    """

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


class AnswerSink(Protocol):
    """[worker] Where an answer goes: a connection."""

    def send(self, data: bytes) -> None:
        """Send all of it. Raises ClientGone."""

    def send_parts(self, *parts: bytes) -> None:
        """Send all of them, without a copy. Raises ClientGone."""

    def send_file(self, head: bytes, file: int, offset: int, count: int) -> int:
        """Send a head and count bytes of an open file, and return how many there were. Raises ClientGone."""

    def share(self) -> None:
        """Let others have their turn, if this one has lasted."""

    def may_persist(self) -> bool:
        """Can another request follow on this connection? Raises BodyError where this request turned out to be none."""


class Exchange(RequestHead):
    """[worker] One request and its answer.

    The application may keep a reference to start_response after the end; then nothing can be sent any more.
    """

    # Most requests leave most of these as they are here: setting each of them for each request would cost more than the
    # call of a small application.
    status = ""
    # Why the answer is not what the application wanted, for the log.
    error = ""
    # Why the client has not got it, or not all of it, for the log.
    reason = ""
    headers: list[tuple[str, str]] = NO_FIELDS
    # bodiless: has the answer no body, because of its method or status?
    # answered: by the server itself, in the application's place.
    head_sent = complete = persists = bodiless = answered = False
    # What it was doing when it was ended from outside or lost, for the log.
    phase = ""
    # Of the process that has it: this one.
    pid = 0
    # Why it is ended from outside, once that has begun; and the status that the client was told when it was cut off.
    ended_by: BaseException | None = None
    told = ""
    # What its answer says as X-Request-ID; empty where that is nothing.
    id_to_tell = ""
    # Its time in seconds, where its view has said one.
    time_limit: float | None = None
    # Bytes of the body that were sent, and how many the announced length leaves; -1 where none was announced.
    sent = 0
    remaining = -1
    # The status and the fields, what length they announce and which of the server's fields are among them: see render().
    _lines = ""
    _length, _meanings = -1, 0
    _chunked = False

    def __init__(self, environ: dict[str, Any], sink: AnswerSink, started: float) -> None:
        self.environ = environ
        self._sink = sink
        # By the monotonic clock, in seconds.
        self.started = started
        # What each request asks for: to find what only the class has takes five times as long as to set it here.
        self.length, self.minor = 0, 1
        self.keep_alive = True
        self.chunked = self.expects = self.head_sent = self.complete = False
        self.error = self._lines = self.id_to_tell = ""

    @property
    def sink(self) -> AnswerSink:
        """Where the answer goes."""
        return self._sink

    # --- PEP 3333

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """Take status and fields; nothing is sent before the body begins. The arguments are those of PEP 3333.

        Raises:
            ResponseError: they are no head of an answer, or it is not the time for one.
        """
        if exc_info is not None:
            self._reraise_if_late(exc_info)
        elif self._lines:
            raise ResponseError("start_response was called twice, without exc_info")
        if self.complete:
            raise ResponseError("start_response was called after the request's end")
        self._lines, self._length, self._meanings = render(status, headers)
        self.status = status
        self.headers = headers
        if self.id_to_tell:
            self._tell_id()
        return self.write

    def _tell_id(self) -> None:
        """Add the request's id, unless the application has done so."""
        if not self._meanings & REQUEST_ID:
            self.headers = [*self.headers, (ID_FIELD, self.id_to_tell)]
            self._lines += f"{ID_FIELD}: {self.id_to_tell}\r\n"

    def _reraise_if_late(self, exc_info: ExcInfo) -> None:
        """PEP 3333: the head has left, so the error that the application wants to report can only end the answer."""
        if self.head_sent and exc_info[1] is not None:
            try:
                raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = (None, None, None)

    def write(self, data: bytes) -> None:
        """Send a block of the body, with the head before the first.

        Raises:
            ResponseError: it is not of bytes, or the request has ended.
            ClientGone: the client does not take it.
        """
        if self.complete:
            raise ResponseError("write() was called after the request's end")
        if not isinstance(data, bytes):
            raise ResponseError(f"the body is of {type(data).__name__}, not of bytes")
        if self.head_sent or not data:
            self._sink.share()
        if not data:
            return
        head = b"" if self.head_sent else self._streaming_head()
        before, data, after = self._framed(data)
        if len(data) <= JOINED:
            block = head + before + data + after
            if block:
                self._sink.send(block)
        else:
            self._sink.send_parts(head + before, data, after)

    # --- the server's side

    def run(self, application: WSGIApplication) -> None:
        """Call the application, send its answer, and close it, whatever happens."""
        result = application(self.environ, self.start_response)
        if type(result) is list and not self.head_sent:
            self._send_whole(result)
            return
        try:
            self._deliver(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def _deliver(self, result: Iterable[bytes]) -> None:
        if isinstance(result, FileWrapper):
            self._send_file(result)
        # Django's HttpResponse holds all of its body, but does not say so in WSGI's terms.
        elif not self.head_sent and (type(result) is tuple or getattr(result, "streaming", None) is False):
            self._send_whole(result)
        else:
            self._stream(result)

    def _stream(self, blocks: Iterable[bytes]) -> None:
        for block in blocks:
            self.write(block)
            if self.bodiless:
                break
        self._finish()

    def _send_whole(self, blocks: Iterable[bytes]) -> None:
        """Send an answer that is there as a whole: one send, and always a length."""
        try:
            body = b"".join(blocks)
        except TypeError as error:
            raise ResponseError(f"the body is not of bytes: {error}") from error
        size = len(body)
        self.sent = size
        if (
            0 < size == self._length
            and self.minor
            and self.keep_alive
            and self.method != "HEAD"
            and (self.status == USUAL or self.status[:3] not in BODILESS)
            and self._sink.may_persist()
        ):
            # The usual answer: nothing to add, nothing to take away.
            self.head_sent = self.complete = self.persists = True
            head = (self._lines + common_fields(self._meanings)).encode("latin-1")
            if size <= JOINED:
                self._sink.send(head + body)
            else:
                self._sink.send_parts(head, body)
            return
        self._plan()
        head, body = self._fitted(body)
        self.sent = len(body)
        self.complete = True
        if len(body) <= JOINED:
            self._sink.send(head + body)
        else:
            self._sink.send_parts(head, body)

    def _fitted(self, body: bytes) -> tuple[bytes, bytes]:
        """Return the head and the body as the method, the status and the announced length allow."""
        size = len(body)
        if self.bodiless:
            return self._head(-1 if self.status[:3] in BODILESS else size), b""
        if 0 <= self._length != size:
            body = self._limited(body, self._length)
        return self._head(size), body

    def _limited(self, body: bytes, length: int) -> bytes:
        """Fit a body to the length that the application announced; the connection is of no use afterwards."""
        self.persists = False
        self.error = f"the application announced {length} bytes and gave {len(body)}"
        return body[:length]

    def _send_file(self, file: FileWrapper) -> None:
        """Send a file: by the kernel where it is a plain file, by reading it where not."""
        plain = None if self.head_sent else file.sendable()
        if plain is None or self._plan():
            self._stream(file.blocks(self._length))
            return
        descriptor, offset, size = plain
        length = size if self._length < 0 else self._length
        head = self._head(length)
        self.complete = True
        self.sent = min(length, size)
        self.sent = self._sink.send_file(head, descriptor, offset, self.sent)
        if self.sent < length:
            self.error = f"the application announced {length} bytes and gave {self.sent}"
            self.persists = False

    def _finish(self) -> None:
        if not self.head_sent:
            self._send_whole(())
            return
        self.complete = True
        if self._chunked:
            self._sink.send(LAST_CHUNK)
        elif self.remaining > 0 and not self.bodiless:
            self.error = f"the application announced {self.remaining} bytes more than it gave"
            self.persists = False

    def _plan(self) -> bool:
        """Note what follows from the method and the status; say whether the answer has no body."""
        if not self._lines:
            raise ResponseError("the application did not call start_response")
        self.persists = self.keep_alive and self._sink.may_persist()
        if self.method == "HEAD" or self.status[:3] in BODILESS:
            self.bodiless = True
        return self.bodiless

    def _streaming_head(self) -> bytes:
        if not self._plan() and self._length < 0:
            # RFC 9112 6.1: no Transfer-Encoding to HTTP/1.0; there the end of the connection is the end of the body.
            self._chunked = self.minor == 1
            self.persists = self.persists and self._chunked
        self.remaining = self._length
        return self._head(-1)

    def _head(self, length: int) -> bytes:
        """Return the head. length: of the body, -1 for unknown; what the application announced goes before it."""
        self.head_sent = True
        parts = [self._lines]
        if self._length >= 0:
            if self.status[:3] == NO_CONTENT:
                parts = [self._without_length()]
        elif length >= 0:
            parts.append(f"Content-Length: {length}\r\n")
        elif self._chunked:
            parts.append(CHUNKED)
        if not self.persists:
            parts.append(CLOSE)
        elif not self.minor:
            parts.append(KEEP)
        parts.append(common_fields(self._meanings))
        return "".join(parts).encode("latin-1")

    def _without_length(self) -> str:
        """RFC 9110 8.6: "MUST NOT send a Content-Length header field in any response with a status code of 204"."""
        return render(self.status, [field for field in self.headers if field[0].lower() != "content-length"])[0]

    def _framed(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        """Return what goes before a block, what of it may go out, and what goes behind it."""
        if self.bodiless:
            return b"", b"", b""
        if self._chunked:
            self.sent += len(data)
            return b"%x\r\n" % len(data), data, b"\r\n"
        if self.remaining >= 0:
            if len(data) > self.remaining:
                data = self._limited(data, self.remaining)
            self.remaining -= len(data)
        self.sent += len(data)
        return b"", data, b""

"""One HTTP connection: request after request, until one side ends it."""

from __future__ import annotations

import contextlib
import logging
import socket
import tempfile
import time
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

from gevent import GreenletExit, sleep

from djworker import log
from djworker.http.body import ChunkedBody, LengthBody
from djworker.http.inbox import Inbox
from djworker.http.input import Input
from djworker.http.protocol import ProtocolError, RequestHead
from djworker.http.response import error_response
from djworker.http.wire import NEVER, Phase, Wire
from djworker.http.wsgi import BodyError, ClientGone, Exchange

if TYPE_CHECKING:
    from djworker.http.body import Body
    from djworker.http.connection import InFlight, Site

__all__ = ["Connection"]

logger = logging.getLogger("djworker.http")
now = time.monotonic

# Bytes for one recv of heads. Pipelined requests beyond it wait in the kernel.
READ_SIZE: Final = 65_536
# Bytes per second that a body must bring on average, once body_timeout has passed (Apache's MinRate).
MINIMUM_RATE: Final = 500
# Bytes of a body that are thrown away to keep the connection, when the application did not read them.
UNREAD_LIMIT: Final = 65_536
# A closing connection reads on so that a peer, still sending, finds the answer and not a reset (RFC 9112 9.6).
LINGER_BYTES: Final = 4 << 20
LINGER_TIME: Final = 5.0
# Seconds that a request waits for a permit before it is refused with 503.
PERMIT_TIMEOUT: Final = 30.0
# Bytes of a body of unknown length that are kept in memory; the rest goes to a temporary file.
BUFFER_SIZE: Final = 1 << 19

EMPTY_INPUT: Final = Input()


class Connection(Wire):
    """[worker] A connection and its greenlet."""

    __slots__ = (
        "_awaits_continue",
        "_body",
        "_failure",
        "_greenlet",
        "_inbox",
        "_peer",
        "_port",
        "_received",
        "_site",
        "_waited",
        "began",
        "exchange",
        "gone",
        "has_permit",
    )

    def __init__(self, site: Site, sock: Any, peer: Any, greenlet: Any) -> None:  # noqa: ANN401
        super().__init__(sock, site.patience)
        self._site = site
        self._greenlet = greenlet
        self._inbox = Inbox()
        self._peer, self._port = (str(peer[0]), str(peer[1])) if isinstance(peer, tuple) else ("", "")
        self._body: Body | None = None
        # Why the request cannot be read to its end: the answer, whatever the application says.
        self._failure: ProtocolError | None = None
        self._awaits_continue = False
        # Of the body: bytes that came, and seconds that they were waited for.
        self._received = 0
        self._waited = 0.0
        self.exchange: Exchange | None = None
        self.gone = False
        self.began = now()
        self.has_permit = True
        if isinstance(peer, tuple):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # --- the loop

    def serve(self) -> None:
        """Serve to the end. Nothing is raised."""
        try:
            while (head := self._next_head()) is not None:
                if not self._serve_one(head):
                    break
        except ProtocolError as error:
            self._refuse(error, None)
        except ClientGone:
            pass
        except GreenletExit:
            self.forget_peer()
        except BaseException:  # noqa: BLE001  (a fault of ours: this connection ends, the others live)
            log.event(logger, logging.ERROR, "connection_failed", "connection failed", peer=self._peer, exc_info=True)
            self.forget_peer()

    def _next_head(self) -> bytes | None:
        """Return the next request's head, None at the connection's end. Raises ProtocolError."""
        inbox = self._inbox
        if not inbox:
            data = self._first_bytes()
            if not data:
                return None
            inbox.feed(data)
        else:
            self._turn_pipelined()
        head = inbox.take_head(self._site.head_limits)
        if head is None:
            head = self._rest_of_head()
        if head is not None and not self.has_permit:
            self._acquire()
        return head

    def _first_bytes(self) -> bytes:
        """Wait for a request to begin: a fresh connection in its place, a kept one parked."""
        site = self._site
        if self.phase is Phase.FRESH:
            self.deadline = self.patience(site.header_timeout)
            data = self.recv(READ_SIZE)
            self.began = now()
            return data
        if site.draining or not site.keep_alive:
            return b""
        self.phase = Phase.IDLE
        self.deadline = now() + site.keep_alive
        site.park(self)
        try:
            self.wait_readable()
            data = self.recv(READ_SIZE)
        finally:
            site.unpark(self)
        self.deadline = NEVER
        self.began = now()
        if data:
            self._acquire()
        return data

    def _turn_pipelined(self) -> None:
        """Let others run before the next request that is already here."""
        permits = self._site.permits
        if permits.contended:
            self.has_permit = False
            permits.release()
            self._acquire()
        else:
            sleep(0)
        self.began = now()

    def _acquire(self) -> None:
        permits = self._site.permits
        self.phase = Phase.QUEUED
        if not permits.acquire(PERMIT_TIMEOUT):
            raise ProtocolError(503, "no permit became free")
        self.has_permit = True

    def _rest_of_head(self) -> bytes | None:
        """Receive until the head is complete."""
        inbox, limits = self._inbox, self._site.head_limits
        self.phase = Phase.HEAD
        self.deadline = self.patience(self._site.header_timeout)
        while True:
            data = self.recv(READ_SIZE)
            if not data:
                if self.cut_for:
                    raise ProtocolError(408, self.cut_for)
                return None
            inbox.feed(data)
            head = inbox.take_head(limits)
            if head is not None:
                self.deadline = NEVER
                return head

    # --- one request

    def _serve_one(self, head: bytes) -> bool:
        """Answer a request; say whether another can follow."""
        site = self._site
        self.phase = Phase.RUNNING
        self.deadline = NEVER
        environ = site.base_environ.copy()
        environ["REMOTE_ADDR"] = self._peer
        environ["REMOTE_PORT"] = self._port
        try:
            request = site.parser.parse(head, environ)
        except ProtocolError as error:
            self._refuse(error, environ)
            return False
        exchange = self.exchange = Exchange(request, environ, self, self.began)
        if request.length or request.chunked:
            self._begin_body(request)
            stream = environ["wsgi.input"] = Input(self._pull)
        else:
            stream = environ["wsgi.input"] = EMPTY_INPUT
        try:
            if request.chunked and site.buffer_chunked:
                Context().run(self._run_buffered, exchange)
            else:
                Context().run(exchange.run, site.app if request.target != "*" else server_options)
        except BaseException as error:  # noqa: BLE001  (whatever the application raises, GreenletExit and Timeout too)
            self._failed(exchange, error)
        site.total += 1
        if stream is not EMPTY_INPUT:
            stream.end()
        if site.access is not None or exchange.error:
            self._report(exchange)
        self.exchange = None
        if exchange.persists and (self._body is None or self._skip_unread()):
            return True
        self._end()
        return False

    def _run_buffered(self, exchange: Exchange) -> None:
        """Run a request whose body has no length once all of it is here. RFC 9112 7.1.3 says what then changes."""
        environ = exchange.environ
        with tempfile.SpooledTemporaryFile(BUFFER_SIZE) as body:
            while block := self._pull():
                body.write(block)
            environ["CONTENT_LENGTH"] = str(body.tell())
            del environ["HTTP_TRANSFER_ENCODING"]
            body.seek(0)
            environ["wsgi.input"] = body
            exchange.run(self._site.app)

    def _report(self, exchange: Exchange) -> None:
        if exchange.error:
            log.event(
                logger,
                logging.ERROR,
                "response_broken",
                exchange.error,
                method=exchange.head.method,
                url=exchange.head.target,
            )
        if self._site.access is not None:
            exchange.finished = now()
            self._site.access(exchange)

    def _failed(self, exchange: Exchange, error: BaseException) -> None:
        """Answer in the application's place, or cut the answer that it began."""
        exchange.persists = exchange.persists and exchange.complete
        if isinstance(error, GreenletExit) or self.gone or self.cut_for == WRITE_TIMEOUT:
            self.forget_peer()
            return
        if self._failure is not None and not exchange.head_sent:
            self._answer(exchange, self._failure.status)
            return
        if isinstance(error, ClientGone):
            self.gone = True
            return
        log.event(
            logger,
            logging.ERROR,
            "request_failed",
            f"{exchange.head.method} {exchange.head.target} failed",
            method=exchange.head.method,
            url=exchange.head.target,
            peer=self._peer,
            exc_info=(type(error), error, error.__traceback__),
        )
        if not exchange.head_sent:
            self._answer(exchange, 500)
        elif not exchange.complete:
            # No last chunk, no rest, and a reset where the end of the connection would look like the end of the body.
            self.forget_peer()

    def _answer(self, exchange: Exchange, status: int) -> None:
        """Send the server's own answer to a request."""
        exchange.status = str(status)
        exchange.head_sent = exchange.complete = True
        exchange.persists = False
        with contextlib.suppress(ClientGone):
            self.write(error_response(status, body=exchange.head.method != "HEAD"), self._site.write_timeout)

    def _refuse(self, error: ProtocolError, environ: dict[str, Any] | None) -> None:
        """Answer what is no request that could be served, and end the connection."""
        environ = environ if environ is not None else self._site.base_environ.copy()
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = self._peer, self._port
        request = RequestHead(environ["REQUEST_METHOD"] or "-", environ["RAW_URI"] or "-", 1)
        exchange = Exchange(request, environ, self, self.began)
        exchange.headers = []
        self._answer(exchange, error.status)
        log.event(
            logger,
            logging.DEBUG,
            "request_refused",
            f"request refused: {error.reason}",
            status=error.status,
            peer=self._peer,
        )
        if self._site.access is not None:
            exchange.finished = now()
            self._site.access(exchange)
        self._end(hears_more=True)

    # --- the request's body

    def _begin_body(self, request: RequestHead) -> None:
        self._body = ChunkedBody(self._site.config.limit_request_body) if request.chunked else LengthBody(request.length)
        self._awaits_continue = request.expects
        self._received = 0
        self._waited = 0.0

    def _pull(self) -> bytes:
        """Return the next piece of the body, nothing at its end. Raises BodyError."""
        body = self._body
        if body is None:
            return b""
        while True:
            try:
                data = body.take(self._inbox) if self._inbox else b""
            except ProtocolError as error:
                self._failure = error
                raise BodyError(error.reason) from error
            if data or body.done:
                self._received += len(data)
                return data
            self._receive_body(body.wanted)

    def _receive_body(self, size: int) -> None:
        if self._failure is not None or self.gone:
            raise BodyError("the body is incomplete")
        if self._awaits_continue:
            self._awaits_continue = False
            if self.exchange is not None and not self.exchange.head_sent:
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n", self._site.write_timeout)
        timeout = self._site.body_timeout
        began = now()
        allowed = timeout + self._received / MINIMUM_RATE - self._waited
        phase, self.phase = self.phase, Phase.BODY
        self.deadline = self.patience(min(timeout, allowed))
        data = self.recv(size)
        self.phase, self.deadline = phase, NEVER
        self._waited += now() - began
        if data:
            self._inbox.feed(data)
        elif self.cut_for:
            self._failure = ProtocolError(408, self.cut_for)
            raise BodyError(self.cut_for)
        else:
            self.gone = True
            raise BodyError("the client ended the connection within the body")

    def _skip_unread(self) -> bool:
        """Read what the application left of the body; say whether its end was reached within bounds."""
        skipped = 0
        body = self._body
        while body is not None and not body.done:
            if self._awaits_continue or skipped > UNREAD_LIMIT:
                return False
            try:
                skipped += len(self._pull())
            except BodyError:
                return False
        self._body = None
        return True

    # --- Sink, for the exchange

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.write(data, self._site.write_timeout)

    def send_file(self, head: bytes, file: int, offset: int, count: int) -> int:
        """Send a head and a part of a file."""
        return self.write_file(head, file, offset, count, self._site.write_timeout)

    def may_persist(self) -> bool:
        """Can another request follow? Raises BodyError where this one turned out to be none."""
        if self._failure is not None:
            raise BodyError(self._failure.reason)
        body = self._body
        if body is not None and not body.done:
            left = body.left
            if self.gone or self._awaits_continue or (left is not None and left - len(self._inbox) > UNREAD_LIMIT):
                return False
        return not self._site.draining

    # --- ends

    def _end(self, *, hears_more: bool = False) -> None:
        """End the connection after its last answer; read on for a while if the peer may still be sending."""
        if self.gone or self.cut_for:
            return
        unread = self._body is not None and not self._body.done
        if not (hears_more or unread or self._inbox) or not self.end_writing():
            return
        if self.has_permit:
            self.has_permit = False
            self._site.permits.release()
        self.phase = Phase.LINGERING
        self.deadline = self.patience(LINGER_TIME)
        heard = 0
        while heard < LINGER_BYTES and (data := self.recv(READ_SIZE)):
            heard += len(data)

    def waits_for_peer(self) -> bool:
        """Is there a deadline, because the peer has to do something?"""
        return self.deadline != NEVER

    def expire(self) -> None:
        """The deadline has passed: end what is being waited for."""
        if self.phase is Phase.HEAD:
            self.wake("the head did not come in time", socket.SHUT_RD)
        elif self.phase is Phase.BODY:
            self.wake("the body did not come in time", socket.SHUT_RD)
        elif self.phase is Phase.WRITING:
            self.forget_peer()
            self.wake(WRITE_TIMEOUT)
        else:
            self.wake("timed out")

    def in_flight(self, at: float) -> InFlight:
        """Describe what is being served."""
        from djworker.http.connection import InFlight  # noqa: PLC0415

        exchange = self.exchange
        method, url = (exchange.head.method, exchange.head.target) if exchange is not None else ("-", "-")
        peer = f"{self._peer}:{self._port}" if self._peer else "unix"
        return InFlight(method, url, peer, at - self.began, self._greenlet, self.phase.value)


WRITE_TIMEOUT: Final = "the peer did not take the answer in time"


def server_options(_: dict[str, Any], start_response: Any) -> list[bytes]:  # noqa: ANN401
    """Answer OPTIONS * (RFC 9110 9.3.7), which asks the server and not the application: PATH_INFO could not hold it."""
    start_response("200 OK", [])
    return [b""]

"""One HTTP connection: request after request, until one side ends it."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import time
from bisect import bisect_left
from contextvars import Context
from copy import copy
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gevent import GreenletExit, sleep

from djworker import log, process
from djworker.conf.peers import LOOPBACK, plain
from djworker.deadlines import NEVER, RequestEnded, RequestTimeout
from djworker.http import proxy_header
from djworker.http.body import ChunkedBody, LengthBody
from djworker.http.body_reader import AHEAD, Upload
from djworker.http.forwarded import Standing
from djworker.http.idle import IdleConnection
from djworker.http.phases import SAID, ConnectionPhase
from djworker.http.receive_buffer import CR, ReceiveBuffer
from djworker.http.request import FORWARDED, ProtocolError
from djworker.http.request_ids import VARIABLE
from djworker.http.response import error_response
from djworker.http.wsgi import USUAL, ClientGone, Exchange
from djworker.http.wsgi_input import Input
from djworker.ipc.contract import END_OF_HEAD, READ_SIZE
from djworker.ipc.latency import BOUNDS

if TYPE_CHECKING:
    from djworker.http.request_ids import RequestIds
    from djworker.http.shared import SharedState

__all__ = ["Connection", "InFlight", "RequestKilled"]

# Looking a member up in its class costs as much as a call.
FRESH, IDLE, RUNNING = ConnectionPhase.FRESH, ConnectionPhase.IDLE, ConnectionPhase.RUNNING

logger = logging.getLogger("djworker.http")
now = time.monotonic
get_ident = process.unpatched("_thread", "get_ident")

#: A closing connection reads on so that a peer, still sending, finds the answer and not a reset (RFC 9112 9.6).
#: Seconds in all, seconds for each piece (nginx's lingering_time and lingering_timeout), and bytes a second, so that an upload
#: without end costs a few per cent of a processor while 30 MiB take half a second.
LINGER_TIME: Final = 30.0
LINGER_TIMEOUT: Final = 5.0
LINGER_RATE: Final = 64 << 20
#: Seconds of a pause that keeps to the rate.
LINGER_PAUSE: Final = 0.01


#: What the status of an answer that has failed is not less than: one comparison for each request.
FAILED: Final = "5"
REQUEST_LINE: Final = re.compile(rb"([!-~]+) ([!-~]+) (HTTP/[0-9.]+)")


class RequestKilled(RequestEnded, GreenletExit):
    """An operator has ended the request. No Exception, so that applications do not take it for an error of theirs."""


#: The status that the client gets where the request is ended from outside.
TIMED_OUT: Final = 504
KILLED: Final = 503


class InFlight(NamedTuple):
    """A request that is being served, or a connection on which one has begun."""

    method: str
    url: str
    peer: str
    # Seconds since its first byte.
    age: float
    greenlet: Any
    phase: str
    # The address that the application is told; that of a proxy's client.
    client: str
    # X-Request-ID, if it has one.
    request_id: str
    # One that no other request of this machine has: its descriptor and its beginning.
    number: str
    # Its variables; empty while there is no complete head.
    environ: dict[str, Any]
    connection: Connection
    # Seconds of its age that it waited for its turn, or for the rest of its head.
    queued: float


class Connection(IdleConnection):
    """[worker] A connection and its greenlet."""

    __slots__ = (
        "_buffer",
        "_gone",
        "_peer",
        "_port",
        "_standing",
        "_upload",
        "exchange",
    )

    def __init__(self, server: SharedState, sock: Any, peer: Any) -> None:
        super().__init__(server, sock)
        self._buffer = ReceiveBuffer()
        # Never empty: databases, throttles and filters take REMOTE_ADDR for an address. A unix socket's peer is on this machine.
        self._peer, self._port = (plain(peer[0]), str(peer[1])) if isinstance(peer, tuple) else (LOOPBACK, "")
        # What its word on clients is worth; None until it has said one.
        self._standing: Standing | None = None
        self._upload: Upload | None = None
        self.exchange: Exchange | None = None
        # The client does not read any more.
        self._gone = False
        if isinstance(peer, tuple):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __repr__(self) -> str:
        exchange = self.exchange
        request = f", {exchange.method} {exchange.target}" if exchange is not None else ""
        return f"<connection of {self._peer}, {self.phase.value}{request}>"

    @property
    def peer(self) -> str:
        """The address at the other end."""
        return self._peer

    @property
    def is_recorded(self) -> bool:
        """Whether there is a request, in memory that outlives the worker."""
        return self._record is not None and (self.exchange is not None or bool(self._unserved))

    def note_phase(self, phase: str) -> None:
        """Note what the request is doing, where it is recorded."""
        if self._record is not None:
            self._record.doing(phase)

    # --- the loop

    def serve(self) -> None:
        """Serve to the end. Nothing is raised."""
        try:
            self._converse()
        except ClientGone:
            pass
        except (GreenletExit, RequestTimeout):
            self.forget_peer()
        except BaseException:  # noqa: BLE001 - a fault of ours: this connection ends, the others live
            log.event(logger, logging.ERROR, "connection_failed", "connection failed", peer=self._peer, exc_info=True)
            self.forget_peer()

    def _converse(self) -> None:
        try:
            if self.phase is FRESH and self._server.announcers is not None and not self._hear_of_client():
                return
            while (head := self._next_head()) is not None:
                if not self._serve_one(head):
                    break
        except ProtocolError as error:
            self._refuse(error, None)
        except RequestKilled as error:  # before it has begun
            self._refuse(ProtocolError(KILLED, str(error)), None)

    def _hear_of_client(self) -> bool:
        """Read the PROXY protocol's header; False where the connection ends before. Raises ProtocolError."""
        announcers = self._server.announcers
        if announcers is not None and not announcers.have(self._peer, unix=not self._port):
            raise ProtocolError(403, f"proxy_allow_from does not name {self._peer if self._port else 'unix'}")
        data = self._fresh_bytes()
        self.enter(ConnectionPhase.HEAD, self._server.header_timeout)
        while data:
            announced = proxy_header.read(data)
            if announced is not None:
                self._peer, self._port = announced.client or (self._peer, self._port)
                self._begin_anew(data[announced.size :])
                return True
            more = self.recv(READ_SIZE)
            if not more:
                self._note_departure("the client left within the header of the PROXY protocol")
                return False
            data += more
        return False

    def _begin_anew(self, data: bytes) -> None:
        """Be a connection that has just come, with what it has brought."""
        self.began = now()
        self.enter(RUNNING if data else FRESH)
        if data:
            self._buffer.feed(data)

    def _next_head(self) -> bytes | None:
        """Wait until a request may run, and return its head; None at the connection's end. Raises ProtocolError."""
        buffer = self._buffer
        if buffer.data:
            self._turn_pipelined()
            head = buffer.take_head(self._server.head_limits)
        else:
            data = self._fresh_bytes() if self.phase is FRESH else self._kept_bytes()
            if 0 < data.find(END_OF_HEAD) == len(data) - 4 and data[0] != CR:
                head = data  # nearly every packet: one head as a whole, and nothing else
            elif data:
                buffer.feed(data)
                head = buffer.take_head(self._server.head_limits)
            else:
                return None
        since = self.began
        if head is None:
            head, since = self._rest_of_head(), now()
            if head is None:
                return None
        concurrency = self._server.concurrency
        if self.has_permit or concurrency.queue or concurrency.taken >= concurrency.limit or self._late:
            self.record(head)
            self._acquire(head, since)
        else:
            concurrency.taken += 1
            self.has_permit = True
        return head

    def _rest_of_head(self) -> bytes | None:
        """Receive until the head is complete."""
        buffer, limits = self._buffer, self._server.head_limits
        self.enter(ConnectionPhase.HEAD, self._server.header_timeout)
        while True:
            data = self.recv(READ_SIZE)
            if not data:
                self._note_departure("the client left within the head")
                return None
            buffer.feed(data)
            head = buffer.take_head(limits)
            if head is not None:
                self._turn_came = now()
                self.enter(RUNNING)
                return head

    def _note_departure(self, reason: str) -> None:
        """The client has gone: a line in the log, as if it had been answered. Raises ProtocolError where it was cut off."""
        if self.cut_for:
            raise ProtocolError(408, self.cut_for)
        if self._server.access is not None:
            exchange = self._unread()
            exchange.status, exchange.reason = "400", reason
            self._server.access(exchange)

    def _unread(self) -> Exchange:
        """Make an exchange of a request that does not begin: of its head, or as much as could be read of it."""
        environ: dict[str, Any] = {"REMOTE_ADDR": self._peer, "REMOTE_PORT": self._port}
        if self._unserved:
            exchange = Exchange(environ, self, self.began)
            with contextlib.suppress(ProtocolError):
                self._server.parser.parse(self._unserved, environ, exchange)
                if FORWARDED in environ:
                    self._heed_proxy(environ)
            return exchange
        if match := REQUEST_LINE.fullmatch(self._buffer.first_line()):
            method, target, protocol = (word.decode("latin-1") for word in match.groups())
            environ |= {"REQUEST_METHOD": method, "RAW_URI": target, "SERVER_PROTOCOL": protocol}
            environ["PATH_INFO"], _, environ["QUERY_STRING"] = target.partition("?")
        return Exchange(environ, self, self.began)

    # --- one request

    def _serve_one(self, head: bytes) -> bool:  # noqa: C901 - the hot path: a call costs more than a branch
        """Answer a request; say whether another can follow."""
        server = self._server
        environ = server.base_environ.copy()
        environ["REMOTE_ADDR"] = self._peer
        environ["REMOTE_PORT"] = self._port
        exchange = self.exchange = Exchange(environ, self, self.began)
        if server.records is not None:
            self.record(head)
        try:
            server.parser.parse(head, environ, exchange)
            if FORWARDED in environ:
                self._heed_proxy(environ)
        except ProtocolError as error:
            self._refuse(error, exchange)
            return False
        if server.request_ids is not None:
            self._name(server.request_ids, head, exchange)
        try:
            if exchange.length or exchange.chunked:
                self._run_with_body(exchange, head)
            else:
                Context().run(exchange.run, server.app if exchange.target != "*" else server_options)
        except BaseException as error:  # noqa: BLE001 - whatever the application raises, GreenletExit and Timeout too
            self._failed(exchange, error)
        self.served = server.total = server.total + 1
        if exchange.status != USUAL and exchange.status >= FAILED:
            server.failed += 1
        lasted = now() - exchange.started
        server.latencies[bisect_left(BOUNDS, lasted)] += 1
        if server.recorder is not None:
            server.recorder.request(exchange, lasted)
        if server.access is not None or exchange.error:
            self._report(exchange)
        self.exchange = None
        if self._record is not None:
            self._record.end()
        if exchange.persists and (self._upload is None or self._upload.skip()):
            self._upload = None
            return True
        self._end()
        return False

    def _heed_proxy(self, environ: dict[str, Any]) -> None:
        """Do what follows from a proxy's fields. Raises ProtocolError."""
        fields = environ.pop(FORWARDED)
        server = self._server
        if removed := server.forwarding.heed(environ, self._standing or self._judged(), fields):
            server.tell_of_removed(removed, self._peer if self._port else "unix")
        if self._record is not None and environ["REMOTE_ADDR"] != self._peer:
            self._record.of(environ["REMOTE_ADDR"])

    def _judged(self) -> Standing:
        if self._standing is None:
            self._standing = self._server.forwarding.standing(self._peer, unix=not self._port)
        return self._standing

    def _name(self, ids: RequestIds, head: bytes, exchange: Exchange) -> None:
        """Give the request its id, also in the line that it gets if its worker is killed."""
        ids.give(exchange, self._may_name)
        if self._record is not None:
            self.record(ids.named(head, exchange.environ))

    def _may_name(self) -> bool:
        """Whether the peer may say which id a request has: a stranger could give many the same."""
        return self._judged() is not Standing.STRANGER

    def _run_with_body(self, exchange: Exchange, head: bytes) -> None:
        server = self._server
        body = ChunkedBody(server.config.limit_request_body) if exchange.chunked else LengthBody(exchange.length)
        upload = self._upload = Upload(
            body, self, self._buffer, timeout=server.body_timeout, total=server.upload_timeout, expects=exchange.expects
        )
        first = b""
        if exchange.chunked:
            first = upload.look_ahead()
        elif exchange.length <= AHEAD and len(self._buffer) < exchange.length and not exchange.expects:
            self._receive_first(upload, head)
        stream = exchange.environ["wsgi.input"] = Input(upload.pull, first, self._share_reading)
        try:
            Context().run(exchange.run, server.app)
        finally:
            stream.end()

    def _share_reading(self) -> None:
        """Let others have their turn, unless a native thread reads, which takes none from them."""
        if get_ident() == self._hub.thread_ident:
            self.share()

    def _receive_first(self, upload: Upload, head: bytes) -> None:
        """Receive a short body before the application begins, without a permit. Raises BodyError, ProtocolError."""
        self._server.concurrency.give_back(self)
        upload.receive_all()
        self._acquire(head, now())

    def _report(self, exchange: Exchange) -> None:
        if exchange.error:
            log.event(
                logger,
                logging.ERROR,
                "response_broken",
                exchange.error,
                method=exchange.method,
                url=exchange.target,
            )
        if self._server.access is not None:
            self._server.access(exchange)

    def _failed(self, exchange: Exchange, error: BaseException) -> None:
        """Answer in the application's place, or cut the answer that it began."""
        upload = self._upload
        exchange.persists = exchange.persists and exchange.complete
        if exchange.ended_by is not None:
            self._answer_ended(exchange, exchange.ended_by)
            return
        if isinstance(error, (GreenletExit, ClientGone)) or self.cut_for == WRITE_TIMEOUT:
            # There is no client to answer, and it is not the application's fault.
            exchange.persists = False
            self._gone = True
            exchange.reason = self.cut_for or str(error) or type(error).__name__
            exchange.sent = max(0, exchange.sent - self.unsent)
            self.forget_peer()
            return
        if upload is not None and upload.failure is not None and not exchange.head_sent:
            exchange.reason = str(upload.failure)
            self._answer(exchange, upload.failure.status)
            return
        if isinstance(error, ProtocolError):
            exchange.reason = error.reason
            self._answer(exchange, error.status)
            return
        log.event(
            logger,
            logging.ERROR,
            "request_failed",
            f"{exchange.method} {exchange.target} failed",
            method=exchange.method,
            url=exchange.target,
            peer=self._peer,
            request_id=exchange.environ.get(VARIABLE, ""),
            exc_info=(type(error), error, error.__traceback__),
        )
        if not exchange.head_sent:
            self._answer(exchange, 500)
        elif not exchange.complete:
            # No last chunk, no rest, and a reset where the end of the connection would look like the end of the body.
            self.forget_peer()

    def _answer_ended(self, exchange: Exchange, why: BaseException) -> None:
        """The request was ended from outside, whatever the application has made of that: say so, or cut what was begun."""
        with contextlib.suppress(GreenletExit, RequestTimeout):  # it is told again while that waits
            self._server.let_go()
        if self._is_out(exchange):
            exchange.persists = False
            return
        exchange.reason = str(why)
        status = TIMED_OUT if isinstance(why, RequestTimeout) else KILLED
        if not exchange.head_sent and not self.cut_for:
            self._answer(exchange, status)
            return
        if exchange.told:
            exchange.status = exchange.told
        exchange.persists = False
        self._gone = True
        exchange.sent = max(0, exchange.sent - self.unsent)
        self.forget_peer()

    def _is_out(self, exchange: Exchange) -> bool:
        """Whether the kernel has all of the answer: a reset would drop what the client has not taken yet."""
        return exchange.complete and not self.unsent

    def _answer(self, exchange: Exchange, status: int) -> None:
        """Send the server's own answer to a request."""
        exchange.answered = True
        exchange.status = str(status)
        exchange.head_sent = exchange.complete = True
        exchange.persists = False
        ids = self._server.request_ids
        lines = ids.line(exchange.environ) if ids is not None else ""
        answer = error_response(status, body=exchange.method != "HEAD", lines=lines)
        exchange.sent = len(answer) - answer.index(END_OF_HEAD) - len(END_OF_HEAD)
        with contextlib.suppress(ClientGone):
            self.send(answer)
        exchange.sent = max(0, exchange.sent - self.unsent)

    def _refuse(self, error: ProtocolError, exchange: Exchange | None) -> None:
        """Answer what is no request that could be served, and end the connection."""
        if exchange is None:
            exchange = self._unread()
        exchange.reason = error.reason
        if self._server.request_ids is not None:
            self._server.request_ids.give(exchange, self._may_name)
        self._answer(exchange, error.status)
        log.event(
            logger,
            logging.INFO if self._server.access is None else logging.DEBUG,
            "request_refused",
            f"request refused: {error.reason}",
            status=error.status,
            peer=self._peer,
        )
        if self._server.recorder is not None:
            self._server.recorder.refused(exchange, now() - exchange.started)
        if self._server.access is not None:
            self._server.access(exchange)
        self.exchange = None
        self.forget_record()
        self._end(hears_more=True)

    def report_lost(self, reason: str) -> None:
        """Have a line in the log for what this worker will not answer any more. Safe in other threads."""
        exchange = self.exchange
        if exchange is None and (self.phase is ConnectionPhase.HEAD or self._unserved):
            exchange = self._unread()
        if self._server.access is None or exchange is None:
            return
        # Should it be answered after all, that is another line, and the true one.
        exchange = copy(exchange)
        exchange.sent, exchange.reason = max(0, exchange.sent - self.unsent), reason
        exchange.phase = self.said_phase
        self._server.access(exchange)
        self.forget_record()

    # --- AnswerSink, for the exchange

    def may_persist(self) -> bool:
        """Can another request follow? Raises BodyError where this one turned out to be none."""
        server = self._server
        if self._upload is not None and not self._upload.may_persist():
            return False
        return not (server.draining or self.cut_for or not server.keep_alive)

    # --- ends

    def _end(self, *, hears_more: bool = False) -> None:
        """End the connection after its last answer; read on for a while if the peer may still be sending."""
        if self._gone:
            return
        unread = self._upload is not None and not self._upload.done
        if not (hears_more or unread or self._buffer.data) or not self.end_writing():
            return
        self._server.concurrency.give_back(self)
        self.enter(ConnectionPhase.LINGERING, LINGER_TIMEOUT)
        self._listen_on()

    def _listen_on(self) -> None:
        began = now()
        heard = 0
        while data := self.recv(READ_SIZE):
            heard += len(data)
            lasted = now() - began
            if lasted > (LINGER_TIMEOUT if self._server.draining else LINGER_TIME):
                return
            self.enter(ConnectionPhase.LINGERING, min(LINGER_TIMEOUT, LINGER_TIME - lasted))
            if heard > LINGER_RATE * (lasted + LINGER_PAUSE):
                sleep(LINGER_PAUSE)
            self.share()

    def expire(self) -> None:
        """The deadline has passed: end what is being waited for."""
        if self.phase is ConnectionPhase.HEAD:
            self.wake("the head did not come in time", socket.SHUT_RD)
        elif self.phase is ConnectionPhase.BODY:
            self.wake("the body did not come in time", socket.SHUT_RD)
        elif self.phase is ConnectionPhase.WRITING:
            self.forget_peer()
            self.wake(WRITE_TIMEOUT)
        elif self.phase is IDLE:
            # Only the reading side: a request that came in this moment is served, and answered.
            self.wake("idle", socket.SHUT_RD)
        else:
            self.wake("timed out")

    def shed(self) -> None:
        """End the connection for want of room: it has no request, or none that is not answered."""
        if self.phase is IDLE:
            self.expire()
        else:
            self.wake("there is no room for so many connections")

    def in_flight(self, at: float) -> InFlight:
        """Describe what is being served; method and url are empty while there is no complete head."""
        exchange = self.exchange
        environ: dict[str, Any] = exchange.environ if exchange is not None else {}
        method, url = (exchange.method, exchange.target) if exchange is not None else self._queued_line()
        peer = f"{self._peer}:{self._port}" if self._port else "unix"
        return InFlight(
            method,
            url,
            peer,
            at - self.began,
            self._greenlet,
            self.phase.value,
            environ.get("REMOTE_ADDR", self._peer),
            environ.get(VARIABLE, ""),
            f"{self._sock.fileno()}-{int(self.began * 1e6):x}",
            environ,
            self,
            max(0.0, self._turn_came - self.began),
        )

    @property
    def said_phase(self) -> str:
        """What it is doing, in the words that operators are told."""
        return SAID.get(self.phase, self.phase.value)

    def _queued_line(self) -> tuple[str, str]:
        """Method and URL of a request that waits to begin."""
        match = REQUEST_LINE.match(self._unserved)
        return (match[1].decode("latin-1"), match[2].decode("latin-1")) if match else ("", "")

    # --- its time

    @property
    def time_limit(self) -> float:
        """Seconds that the request has; NEVER for any."""
        limit = self.exchange.time_limit if self.exchange is not None else None
        return (self._server.request_timeout or NEVER) if limit is None else limit

    def time_left(self) -> float:
        """Seconds until the request's deadline."""
        return self.counts_from + self.time_limit - now()

    def allow(self, seconds: float) -> None:
        """Give the request so much time, from where it began."""
        if self.exchange is not None:
            self.exchange.time_limit = seconds

    def extend(self, seconds: float) -> None:
        """Give the request so much more time."""
        self.allow(self.time_limit + seconds)

    def is_overdue(self, at: float) -> bool:
        """Whether the application should have answered by then."""
        exchange = self.exchange
        if exchange is None or exchange.answered or self.phase is ConnectionPhase.QUEUED:
            return False
        return at >= self.counts_from + self.time_limit

    def cut(self, status: int) -> None:
        """[hub] Hang up on the client: the application goes on, and cannot be ended. Tell it the status, if nothing was told."""
        exchange = self.exchange
        if exchange is not None and not exchange.head_sent and not self.unsent:
            exchange.told = str(status)
            with contextlib.suppress(OSError):
                self._sock.send(error_response(status, body=exchange.method != "HEAD"))
        elif exchange is None or not self._is_out(exchange):
            self.forget_peer()
        self.wake(CUT)


CUT: Final = "the request did not end when it was told to"
WRITE_TIMEOUT: Final = "the peer did not take the answer in time"


def server_options(_: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer OPTIONS * (RFC 9110 9.3.7), which asks the server and not the application: PATH_INFO could not hold it."""
    start_response("200 OK", [])
    return [b""]

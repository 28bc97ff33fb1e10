"""A request's body on its way in: received only when the application reads, within deadlines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NoReturn

from djworker.deadlines import NEVER
from djworker.http.phases import ConnectionPhase
from djworker.http.request import ProtocolError
from djworker.http.wsgi import BodyError
from djworker.ipc.contract import READ_SIZE

if TYPE_CHECKING:
    from djworker.http.body import Body
    from djworker.http.receive_buffer import ReceiveBuffer
    from djworker.http.transport import Transport

__all__ = ["AHEAD", "Upload"]

now = time.monotonic

LEFT: Final = "the client ended the connection within the body"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
#: Bytes per second that a body must bring on average, once body_timeout has passed (Apache's MinRate).
MINIMUM_RATE: Final = 500
#: Bytes of a body that are thrown away to keep the connection, when the application did not read them.
UNREAD_LIMIT: Final = 65_536
#: Bytes of a body that are received before the application is called (nginx's client_body_buffer_size: 16 KiB): it costs less
#: than the application's stack, and a slow client of a form holds nothing of the application's. Longer ones come as it reads.
AHEAD: Final = 65_536
#: Pieces of a body until others are asked for: of 64 KiB, or of 85 tiny chunks, they are done in a fraction of a millisecond.
PIECES_ALONE: Final = 4


class Upload:
    """[worker] One request's body.

    timeout: seconds between two pieces. total: seconds that the client may take for all of them, 0 for any time.
    expects: the client waits for a 100 before it sends anything.
    """

    __slots__ = (
        "_awaits_continue",
        "_body",
        "_buffer",
        "_pieces",
        "_received",
        "_timeout",
        "_total",
        "_transport",
        "_waited",
        "failure",
    )

    def __init__(
        self, body: Body, transport: Transport, buffer: ReceiveBuffer, *, timeout: float, total: float, expects: bool
    ) -> None:
        self._body = body
        self._transport = transport
        self._buffer = buffer
        self._timeout = timeout
        self._total = total or NEVER
        self._awaits_continue = expects
        # Bytes that came, and seconds that they were waited for.
        self._received = 0
        self._pieces = 0
        self._waited = 0.0
        # Why the body cannot be read to its end: this is the answer then, whatever the application says.
        self.failure: ProtocolError | None = None

    def receive_all(self) -> None:
        """Receive the rest of a body of known length. Raises BodyError."""
        left = self._body.left or 0
        while len(self._buffer) < left:
            self._buffer.feed(self._receive(left - len(self._buffer)))

    def look_ahead(self) -> bytes:
        """Take what is here already of a chunked body, so that a broken one is refused before the application runs.

        Raises BodyError.
        """
        try:
            data = self._body.take(self._buffer) if self._buffer.data else b""
        except ProtocolError as error:
            self._fail(error)
        self._received = len(data)
        return data

    def pull(self, most: int = READ_SIZE) -> bytes:
        """Return the next piece, nothing at the end. Raises BodyError.

        most: bytes of content to receive; there can be more that are here already.
        """
        body, buffer = self._body, self._buffer
        try:
            data = body.take(buffer) if buffer.data else b""
            while not data:
                if body.done:
                    return b""
                data = body.take_received(self._receive(body.wanted(most)), buffer)
        except ProtocolError as error:
            self._fail(error)
        self._pieces += 1
        if self._pieces > PIECES_ALONE:
            self._transport.share()
        self._received += len(data)
        return data

    def _receive(self, size: int) -> bytes:
        """Return up to size bytes, at least one. Raises BodyError."""
        transport = self._transport
        if self.failure is not None:
            self._fail(self.failure)
        if self._awaits_continue:
            self._awaits_continue = False
            transport.send(CONTINUE)
        data = transport.recv_at_once(size)
        if data is None:
            data = self._await(size)
        if not data:
            # 400 is nginx's status. The client may have ended only its own side, and read on.
            status, reason = (408, transport.cut_for) if transport.cut_for else (400, LEFT)
            self._fail(ProtocolError(status, reason))
        return data

    def _await(self, size: int) -> bytes:
        """Wait for the client, as long as it may take; nothing at the end."""
        began = now()
        allowed = self._timeout + (self._received + len(self._buffer)) / MINIMUM_RATE - self._waited
        transport = self._transport
        wait = transport.begin_wait(ConnectionPhase.BODY, min(self._timeout, allowed, self._total - self._waited))
        try:
            return transport.recv_later(size)
        finally:
            transport.end_wait(wait)
            self._waited += now() - began

    def _fail(self, error: ProtocolError) -> NoReturn:
        self.failure = error
        # What follows cannot be told from the body.
        self._buffer.clear()
        raise BodyError(error.reason, error.status) from error

    @property
    def done(self) -> bool:
        """All of it has been read: what follows is another request."""
        return self._body.done

    def may_persist(self) -> bool:
        """Can another request follow this body? Raises BodyError where the body turned out to be none."""
        if self.failure is not None:
            self._fail(self.failure)
        if self._body.done:
            return True
        left = self._body.left
        short = left is None or left - len(self._buffer) <= UNREAD_LIMIT
        # A client that was not told to continue may or may not send the body (RFC 9110 10.1.1).
        return short and not self._awaits_continue

    def skip(self) -> bool:
        """Read what the application left; say whether the end was reached within bounds."""
        if self._transport.is_waited_for:  # another greenlet of the application's still reads
            return self._body.done
        skipped = 0
        while not self._body.done:
            if self._awaits_continue or skipped > UNREAD_LIMIT:
                return False
            try:
                skipped += len(self.pull())
            except BodyError:
                return False
        return True

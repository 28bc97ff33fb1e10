"""A request's body on its way in: received only when the application reads, within deadlines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from djworker.http.protocol import ProtocolError
from djworker.http.wire import NEVER, Phase
from djworker.http.wsgi import BodyError

if TYPE_CHECKING:
    from djworker.http.body import Body
    from djworker.http.inbox import Inbox
    from djworker.http.wire import Wire

__all__ = ["Upload"]

now = time.monotonic

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
# Bytes per second that a body must bring on average, once body_timeout has passed (Apache's MinRate).
MINIMUM_RATE: Final = 500
# Bytes of a body that are thrown away to keep the connection, when the application did not read them.
UNREAD_LIMIT: Final = 65_536


class Upload:
    """[worker] One request's body.

    timeout: seconds between two pieces. expects: the client waits for a 100 before it sends anything.
    """

    __slots__ = ("_awaits_continue", "_body", "_inbox", "_received", "_timeout", "_waited", "_wire", "failure", "gone")

    def __init__(self, body: Body, wire: Wire, inbox: Inbox, *, timeout: float, expects: bool) -> None:
        self._body = body
        self._wire = wire
        self._inbox = inbox
        self._timeout = timeout
        self._awaits_continue = expects
        # Bytes that came, and seconds that they were waited for.
        self._received = 0
        self._waited = 0.0
        # Why the body cannot be read to its end: this is the answer then, whatever the application says.
        self.failure: ProtocolError | None = None
        self.gone = False

    def pull(self) -> bytes:
        """Return the next piece, nothing at the end. Raises BodyError."""
        body, inbox = self._body, self._inbox
        while True:
            try:
                data = body.take(inbox) if inbox.data else b""
            except ProtocolError as error:
                self.failure = error
                raise BodyError(error.reason) from error
            if data or body.done:
                self._received += len(data)
                return data
            self._receive()

    def _receive(self) -> None:
        wire = self._wire
        if self.failure is not None or self.gone:
            raise BodyError("the body is incomplete")
        if self._awaits_continue:
            self._awaits_continue = False
            wire.send(CONTINUE)
        began = now()
        allowed = self._timeout + self._received / MINIMUM_RATE - self._waited
        phase, wire.phase = wire.phase, Phase.BODY
        wire.deadline = wire.patience(min(self._timeout, allowed))
        data = wire.recv(self._body.wanted)
        wire.phase, wire.deadline = phase, NEVER
        self._waited += now() - began
        if data:
            self._inbox.feed(data)
        elif wire.cut_for:
            self.failure = ProtocolError(408, wire.cut_for)
            raise BodyError(wire.cut_for)
        else:
            self.gone = True
            raise BodyError("the client ended the connection within the body")

    @property
    def done(self) -> bool:
        """All of it has been read: what follows is another request."""
        return self._body.done

    def may_persist(self) -> bool:
        """Can another request follow this body? Raises BodyError where the body turned out to be none."""
        if self.failure is not None:
            raise BodyError(self.failure.reason)
        if self._body.done:
            return True
        left = self._body.left
        short = left is None or left - len(self._inbox) <= UNREAD_LIMIT
        # A client that was not told to continue may or may not send the body (RFC 9110 10.1.1).
        return short and not self.gone and not self._awaits_continue

    def skip(self) -> bool:
        """Read what the application left; say whether the end was reached within bounds."""
        skipped = 0
        while not self._body.done:
            if self._awaits_continue or skipped > UNREAD_LIMIT:
                return False
            try:
                skipped += len(self.pull())
            except BodyError:
                return False
        return True

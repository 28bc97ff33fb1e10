"""The control socket: who may speak to the arbiter, how much, and for how long.

Nothing in here waits, and nothing that a client does reaches the rest of the arbiter: sockets do not block, what is kept for a
client is bounded in number, size and time, and an exception ends that client alone. The verbs themselves are in
``djworker.arbiter.verbs``.
"""

from __future__ import annotations

import logging
import selectors
import socket
import time
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol

from djworker import log
from djworker.control.credentials import peer_uid
from djworker.control.protocol import LINE_LIMIT, Kind, Reply, Request, UnreadableLineError
from djworker.ipc.contract import READ_SIZE

if TYPE_CHECKING:
    from collections.abc import Collection

    from djworker.arbiter.listeners import Listener

logger = logging.getLogger("djworker.arbiter")

#: Clients at a time. A newcomer takes the place of the one that has asked nothing for the longest.
MOST_CLIENTS: Final = 64
#: Connections taken in one turn of the loop: signals and children come between.
ACCEPTED_PER_TURN: Final = 16
#: Bytes that wait for one client. One that does not read them is dropped.
MOST_UNREAD: Final = 8 * 1024 * 1024
#: Seconds to send a request, to ask the next one, and to read an answer.
CLIENT_TIME: Final = 10.0
#: Seconds until connections are taken again, when the descriptors have run out.
PAUSE: Final = 1.0


class Service(Protocol):
    """What answers requests."""

    def ask(self, client: Client, request: Request) -> None:
        """Answer, now or later."""

    def forget(self, client: Client) -> None:
        """The client is gone."""


class Client:
    """[arbiter] One connection. ``asking``: it has a request under way, so its time does not run."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.deadline = deadline
        self.asking = False
        self.ended = False
        self.heard = b""
        self.unread = bytearray()
        self.events = selectors.EVENT_READ

    def __repr__(self) -> str:
        state = "ended" if self.ended else "asking" if self.asking else "silent"
        return f"<Client {self.sock.fileno()} {state}, {len(self.heard)} bytes heard, {len(self.unread)} unread>"

    def say(self, kind: Kind, /, **fields: Any) -> None:
        """Have a line sent. Of an answer, the last kind gives the turn back to the client."""
        reply = Reply(kind, fields)
        if not self.unread:
            self.deadline = time.monotonic() + CLIENT_TIME  # to read it; and, where it is the last, to ask the next one
        self.unread += reply.encode()
        if reply.is_last:
            self.asking = False

    def refuse(self, reason: str, **fields: Any) -> None:
        """End an answer with the reason why it is not done."""
        self.say("refused", reason=reason, **fields)


class Tell(Protocol):
    """Says a line to a client: ``Control.tell``."""

    def __call__(self, client: Client, kind: Kind, /, **fields: Any) -> None:
        """See there."""


class Control:
    """[arbiter] The listening control socket and its clients."""

    def __init__(
        self, listener: Listener, selector: selectors.BaseSelector, service: Service, trusted: Collection[int]
    ) -> None:
        """trusted: user ids that are answered; root is."""
        self.listener = listener
        self._selector = selector
        self._service = service
        self._trusted = {0, *trusted}
        self._clients: dict[Client, None] = {}  # in the order in which they came
        self._resume_at = inf
        selector.register(listener.sock, selectors.EVENT_READ, self._accept)

    def __repr__(self) -> str:
        return f"<Control {self.listener}, {len(self._clients)} clients>"

    def close(self) -> None:
        """Let every client go, and take the socket's file away."""
        for client in list(self._clients):
            self._send(client)
            self._drop(client)
        if self._resume_at == inf:
            self._selector.unregister(self.listener.sock)
        self.listener.close()

    def excuse(self, reason: str) -> None:
        """Tell clients that wait for an answer that it does not come."""
        for client in [client for client in self._clients if client.asking]:
            client.refuse(reason)
            self._send(client)

    # -- time ---------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When ``serve_deadlines`` is due next."""
        return min((client.deadline for client in self._clients if not self._is_busy(client)), default=self._resume_at)

    def serve_deadlines(self, now: float) -> None:
        """Drop clients whose time is over, and take connections again."""
        for client in [one for one in self._clients if one.deadline <= now and not self._is_busy(one)]:
            if not client.unread:
                client.refuse(f"no request within {CLIENT_TIME:g} s")
                self._send(client)
            self._drop(client)
        if now >= self._resume_at:
            self._resume_at = inf
            self._selector.register(self.listener.sock, selectors.EVENT_READ, self._accept)

    @staticmethod
    def _is_busy(client: Client) -> bool:
        """Whether it waits for us, and we not for it."""
        return client.asking and not client.unread

    # -- connections --------------------------------------------------------------------------------------------------

    def _accept(self, _events: int) -> None:
        for _ in range(ACCEPTED_PER_TURN):
            try:
                sock, _address = self.listener.sock.accept()
            except BlockingIOError:
                return
            except OSError:  # the client has gone, or there is no descriptor left: asking again at once would only spin
                self._selector.unregister(self.listener.sock)
                self._resume_at = time.monotonic() + PAUSE
                return
            sock.setblocking(False)
            self._welcome(sock)

    def _welcome(self, sock: socket.socket) -> None:
        client = Client(sock, time.monotonic() + CLIENT_TIME)
        self._clients[client] = None
        self._selector.register(sock, client.events, lambda events: self._serve(client, events))
        uid = peer_uid(sock)
        if uid not in self._trusted:
            self._turn_away(client, f"user {uid} may not ask: this server answers root and the user that it runs as")
        elif len(self._clients) > MOST_CLIENTS:
            silent = next((one for one in self._clients if not one.asking), client)
            self._turn_away(silent, f"too many clients: there is room for {MOST_CLIENTS}")

    def _turn_away(self, client: Client, reason: str) -> None:
        client.refuse(reason)
        self._send(client)
        self._drop(client)

    def _drop(self, client: Client) -> None:
        if client.ended:
            return
        client.ended = True
        del self._clients[client]
        self._selector.unregister(client.sock)
        client.sock.close()
        self._service.forget(client)

    def _serve(self, client: Client, events: int) -> None:
        if client.ended:  # by another event of the same turn
            return
        try:
            if events & selectors.EVENT_READ:
                self._receive(client)
            self._flush(client)
        except Exception as error:  # noqa: BLE001 - a fault of ours, which this client knows to provoke
            text = f"a request of a control client could not be served: {error!r}"
            log.event(logger, logging.ERROR, "control_failed", text, exc_info=True)
            self._turn_away(client, f"a fault of the server's own, see its log: {error!r:.200}")

    # -- bytes --------------------------------------------------------------------------------------------------------

    def _receive(self, client: Client) -> None:
        try:
            data = client.sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        client.heard += data
        self._hear(client)

    def _hear(self, client: Client) -> None:
        """Begin with a request, when it is there as a whole. The next one comes after the answer, or clients would queue work."""
        line, end, rest = client.heard.partition(b"\n")
        if len(line) > LINE_LIMIT:
            self._turn_away(client, f"a request of more than {LINE_LIMIT} bytes")
        elif client.asking or rest:
            self._turn_away(client, "one request at a time: the next one comes after the answer")
        elif end:
            client.heard = b""
            try:
                request = Request.decode(line)
            except UnreadableLineError as error:
                self._turn_away(client, str(error))
                return
            client.asking = True
            self._service.ask(client, request)

    def tell(self, client: Client, kind: Kind, /, **fields: Any) -> None:
        """Say a line to a client that waits for it, outside of its own events."""
        if not client.ended:
            client.say(kind, **fields)
            self._serve(client, 0)

    def _flush(self, client: Client) -> None:
        """Send what can be sent, and be told when there is room for more."""
        if self._send(client):
            self._watch(client)

    def _send(self, client: Client) -> bool:
        """Send what the client takes now; whether it is still there."""
        if client.ended:
            return False
        if not client.unread:
            return True
        try:
            sent = client.sock.send(client.unread)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(client)
            return False
        del client.unread[:sent]
        if sent:  # it reads
            client.deadline = time.monotonic() + CLIENT_TIME
        if len(client.unread) > MOST_UNREAD:
            self._drop(client)
        return len(client.unread) <= MOST_UNREAD

    def _watch(self, client: Client) -> None:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.unread else 0)
        if wanted != client.events:
            client.events = wanted
            self._selector.modify(client.sock, wanted, self._selector.get_key(client.sock).data)

"""Accepting: on sockets that do not give connections, beside requests, and beside other workers."""

from __future__ import annotations

import _socket
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import gevent
import pytest

from djworker.http.admission import AdmissionQueue
from djworker.http.concurrency import ConcurrencyLimit
from djworker.worker.acceptor import Acceptor
from djworker.worker.balance import Balance, Share


class Server:
    """What an acceptor knows of a server: here connections stay."""

    close_acceptor: Callable[[], None]

    def __init__(self) -> None:
        self.concurrency = ConcurrencyLimit(100)
        self.admission = AdmissionQueue(self.concurrency)
        self.said: list[str] = []
        self.accepted: list[socket.socket] = []

    def has_room(self) -> bool:
        return True

    @property
    def load(self) -> int:
        return len(self.accepted)

    def arrive(self, sock: socket.socket, _peer: object) -> None:
        self.accepted.append(sock)
        self.admission.queue(lambda: self.said.append("served"))


class Counted(Acceptor):
    asked = 0

    def _part(self, sock: _socket.socket) -> int:
        self.asked += 1
        return super()._part(sock)


def test_a_socket_that_is_shut_down_does_not_keep_the_hub_busy(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        listener.shutdown(socket.SHUT_RD)
        acceptor = Counted(Server(), [listener])  # type: ignore[arg-type]
        acceptor.start()
        for _ in range(50):
            gevent.sleep(0.001)
        acceptor.close()
    assert acceptor.asked == 1, "it is tried again after a pause, not at every turn"


@contextmanager
def accepting(*sites: Server, shares: tuple[Share | None, ...] = (None,)) -> Iterator[Callable[[int], None]]:
    """Acceptors on one socket; how to connect a number of clients."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1000))
        listener.setblocking(False)
        for server, share in zip(sites, shares, strict=True):
            acceptor = Acceptor(server, [listener.dup()], share=share)  # type: ignore[arg-type]
            stack.callback(acceptor.close)
            server.close_acceptor = acceptor.close
            acceptor.start()

        def connect(count: int) -> None:
            for _ in range(count):
                stack.enter_context(socket.create_connection(listener.getsockname()))

        yield connect
    for server in sites:
        for sock in server.accepted:
            sock.close()


def until(condition: Callable[[], bool]) -> None:
    for _ in range(5000):
        if condition():
            return
        gevent.sleep(0.001)
    pytest.fail("never")


def test_connections_are_served_behind_the_requests_that_were_here_before() -> None:
    server = Server()
    server.concurrency.taken = 1
    with accepting(server) as connect:
        for number in range(3):
            server.admission.queue(lambda number=number: server.said.append(f"begun {number}"))  # type: ignore[misc]
        connect(2)
        until(lambda: len(server.said) == 5)
    assert server.said == ["begun 0", "begun 1", "begun 2", "served", "served"]


def test_a_crowd_has_arrived_before_those_served_ask_again() -> None:
    """Accepted one at a turn, each of them would wait for all that are in already, again and again."""
    server = Server()
    server.concurrency.taken = 1

    def ask() -> bool:
        if len(server.said) < 500:
            server.said.append("begun")
            server.admission.queue(ask)
        return True

    with accepting(server) as connect:
        for _ in range(24):
            server.admission.queue(ask)
        connect(50)
        until(lambda: len(server.said) >= 500)
    first = server.said.index("served")
    assert server.said[first : first + 50] == ["served"] * 50


def test_what_waits_in_the_kernel_when_the_acceptor_ends_is_left_there(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    with accepting(server) as connect:
        server.close_acceptor()
        connect(1)
        gevent.sleep(0.01)
        assert server.accepted == []
    assert caplog.records == []


def test_workers_share_a_crowd_that_comes_at_once() -> None:
    balance = Balance()
    sites = Server(), Server(), Server()
    with accepting(*sites, shares=tuple(balance.share(slot, 3) for slot in range(3))) as connect:
        for size in (31, 30, 1, 1, 1, 36):
            connect(size)
            until(lambda: not any(server.admission.waiting for server in sites))
        until(lambda: sum(server.load for server in sites) == 100)
    loads = sorted(server.load for server in sites)
    assert loads[2] <= 1.25 * loads[0]


def test_what_another_worker_does_not_take_is_taken_after_a_moment() -> None:
    balance = Balance()
    idle, server = balance.share(0, 2), Server()
    idle.tell(0)
    with accepting(server, shares=(balance.share(1, 2),)) as connect:
        connect(10)
        began = time.monotonic()
        until(lambda: server.load == 10)
        assert time.monotonic() - began < 5


def test_a_worker_that_has_not_written_for_long_is_not_waited_for() -> None:
    time_is = 100.0
    balance = Balance(lambda: time_is)
    silent, other = balance.share(0, 2), balance.share(1, 2)
    silent.tell(0)
    assert other.part(5, 10) == 3
    time_is += 2
    assert other.part(5, 10) == 10
    silent.tell(30)
    assert other.part(5, 10) == 10
    silent.forget()
    assert other.part(5, 10) == 10

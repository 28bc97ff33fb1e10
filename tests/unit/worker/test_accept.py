"""Accepting on sockets that do not give connections."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import gevent
import pytest

from djworker.http.permits import Permits
from djworker.http.turnstile import Turnstile
from djworker.worker.accept import Acceptor


class Asked(Turnstile):
    """Counts how often the acceptor thinks that there is something to accept."""

    asked = 0

    def is_free(self) -> bool:
        self.asked += 1
        return super().is_free()


class Site:
    """What an acceptor knows of a server."""

    close_acceptor: Callable[[], None]

    def __init__(self) -> None:
        self.permits = Permits(100)
        self.turnstile = Asked(self.permits)
        self.said: list[str] = []
        self.arriving: set[object] = set()

    def has_room(self) -> bool:
        return True

    def handle(self, sock: socket.socket, _peer: object) -> None:
        self.said.append("accepted")
        sock.close()


def test_a_socket_that_is_shut_down_does_not_keep_the_hub_busy(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        listener.shutdown(socket.SHUT_RD)
        site = Site()
        acceptor = Acceptor(site, [listener], alone=False)  # type: ignore[arg-type,list-item]
        acceptor.start()
        for _ in range(50):
            gevent.sleep(0.001)
        acceptor.close()
    assert site.turnstile.asked == 1, "it is tried again after a pause, not at every turn"


@contextmanager
def accepting_while_busy(site: Site) -> Iterator[Callable[[int], list[socket.socket]]]:
    """An acceptor in a worker that has a request under way; how to connect a number of clients."""
    site.permits.taken = 1
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.setblocking(False)
        acceptor = Acceptor(site, [listener], alone=False)  # type: ignore[arg-type,list-item]
        stack.callback(acceptor.close)
        site.close_acceptor = acceptor.close
        acceptor.start()
        yield lambda count: [
            stack.enter_context(socket.create_connection(listener.getsockname())) for _ in range(count)
        ]


def test_a_busy_worker_accepts_in_its_turn() -> None:
    """Behind what has arrived before: a worker that has less to do is faster, and gets the connection."""
    site = Site()
    with accepting_while_busy(site) as connect:
        for number in range(3):
            site.turnstile.queue(lambda number=number: site.said.append(f"begun {number}"))  # type: ignore[misc]
        connect(2)
        while len(site.said) < 5:
            gevent.sleep(0.001)
    assert site.said == ["begun 0", "begun 1", "begun 2", "accepted", "accepted"]


def test_what_waits_for_its_turn_when_the_acceptor_ends_is_not_accepted(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    with accepting_while_busy(site) as connect:
        connect(1)
        site.turnstile.queue(site.close_acceptor)
        gevent.sleep(0.01)
    assert site.said == []
    assert caplog.records == []


def test_a_crowd_is_let_in_faster_by_a_worker_that_serves_a_crowd() -> None:
    """One at a turn, each of them would wait for all that are in already, again and again."""
    site = Site()

    def ask() -> bool:
        if len(site.said) < 200:
            site.said.append("begun")
            site.turnstile.queue(ask)
        return True

    with accepting_while_busy(site) as connect:
        for _ in range(24):
            site.turnstile.queue(ask)
        connect(5)
        while len(site.said) < 200:
            gevent.sleep(0.001)
    rounds = "".join("a" if word == "accepted" else "." for word in site.said).strip(".").split(".")
    assert [len(accepted) for accepted in rounds if accepted] == [4, 1]

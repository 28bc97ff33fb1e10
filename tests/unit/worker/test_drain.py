"""A worker that retires: in this process, with its real hub, sockets and channel."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator

import gevent
import pytest

from djworker.conf.table import Config
from djworker.ipc import messages
from djworker.ipc.channel import Channel
from djworker.ipc.scoreboard import Row
from djworker.worker.worker import Worker

SECONDS = 10


def slow(_environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    gevent.sleep(0.05)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


@pytest.fixture
def line() -> Iterator[tuple[Channel, Channel]]:
    """The arbiter's end and the worker's."""
    ours, theirs = Channel.pair()
    theirs.set_blocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def work(listener: socket.socket, line: tuple[Channel, Channel]) -> Callable[[], gevent.Greenlet[[], int]]:
    row = Row.create()

    def start() -> gevent.Greenlet[[], int]:
        worker = Worker(
            slow, Config(workers=1), line[1], row, [listener.detach()], lambda *_args, **_kwargs: None, 1, 0
        )
        return gevent.spawn(worker.run)

    return start


def test_who_is_accepted_in_the_turn_of_the_order_to_retire_is_served(
    listener: socket.socket, line: tuple[Channel, Channel], work: Callable[[], gevent.Greenlet[[], int]]
) -> None:
    address = listener.getsockname()
    worker = work()
    gevent.sleep(0.01)  # it waits for both now
    with socket.create_connection(address, timeout=SECONDS) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        line[0].send(messages.Retire(30.0, empty_backlog=False))
        assert worker.get(timeout=SECONDS) == 0
        client.setblocking(False)  # the process would end here
        assert client.recv(4096).startswith(b"HTTP/1.1 200 OK")


def test_a_worker_without_an_arbiter_leaves(
    line: tuple[Channel, Channel], work: Callable[[], gevent.Greenlet[[], int]]
) -> None:
    line[0].close()
    assert work().get(timeout=SECONDS) == 0

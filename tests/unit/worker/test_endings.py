"""Requests that are told to end: only the one that was meant hears it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import groupby
from types import FrameType
from typing import Any

import gevent
import pytest
from gevent.event import Event

from djworker.deadlines import RequestTimeout
from djworker.http.bulk import BulkWork
from djworker.http.connection import InFlight
from djworker.http.phases import ConnectionPhase
from djworker.worker.endings import AGAIN, Endings


class Exchange:
    """A request."""

    answered = False
    phase = ""
    ended_by: BaseException | None = None


class Connection:
    """With one request, whose application waits in a greenlet until it is told to end."""

    phase = ConnectionPhase.RUNNING
    time_limit = 1.0
    cut_with = 0

    def __init__(self) -> None:
        self.exchange: Exchange | None = Exchange()
        self.began = time.monotonic()
        self.heard: list[str] = []
        self.go_on = Event()
        self.greenlet = gevent.spawn(self.serve)
        gevent.sleep(0)

    def serve(self) -> None:
        while not self.go_on.is_set():
            try:
                self.go_on.wait()
            except BaseException as error:  # noqa: BLE001 - what an application should not do
                self.heard.append(type(error).__name__)

    def is_overdue(self, now: float) -> bool:
        return self.exchange is not None and now > self.began + self.time_limit

    def in_flight(self, now: float) -> InFlight:
        there: Any = self
        return InFlight("GET", "/", "peer", now - self.began, self.greenlet, "running", "", "", "1", {}, there, 0.0)

    def cut(self, status: int) -> None:
        self.cut_with = status


class Server:
    """What ``Endings`` looks at of it."""

    records = recorder = None

    def __init__(self, *connections: Connection) -> None:
        self.busy = dict.fromkeys(connections)


class Describe:
    """Knows nothing."""

    def describe(self, item: InFlight) -> dict[str, Any]:
        return {"method": item.method, "path": item.url, "view": "", "age": item.age, "phase": item.phase}

    def view(self, _item: InFlight) -> str:
        return ""

    def owners(self) -> list[Any]:
        return []

    def stack(self, _item: InFlight) -> str:
        return ""

    def frames(self, _item: InFlight) -> Iterator[FrameType]:
        return iter(())


@pytest.fixture
def connection() -> Iterator[Connection]:
    """One that is under way."""
    connection = Connection()
    yield connection
    connection.go_on.set()
    connection.greenlet.join()


@pytest.fixture
def endings(connection: Connection) -> Endings:
    """Those of a server with this connection."""
    server: Any = Server(connection)
    return Endings(server, Describe())


def test_a_request_is_told_again_and_then_cut(connection: Connection, endings: Endings) -> None:
    late = connection.began + 2
    for sweep in range(1, 5):
        endings.sweep(late + (sweep - 1) * AGAIN)
        gevent.sleep(0)
        assert connection.heard == ["RequestTimeout"] * sweep
        assert connection.cut_with == (504 if sweep >= 3 else 0)
    endings.sweep(late + 3 * AGAIN + 0.5)
    gevent.sleep(0)
    assert len(connection.heard) == 4, "not at each look"


def next_request(connection: Connection) -> None:
    connection.exchange = Exchange()


def no_request(connection: Connection) -> None:
    connection.exchange = None


def answered(connection: Connection) -> None:
    assert connection.exchange is not None
    connection.exchange.answered = True


@pytest.mark.parametrize("meanwhile", [next_request, no_request, answered])
def test_a_request_that_was_faster_hears_nothing(
    connection: Connection, endings: Endings, meanwhile: Callable[[Connection], None]
) -> None:
    """Nor does the next one on its connection: the hub looks once more."""
    endings.sweep(connection.began + 2)
    meanwhile(connection)
    gevent.sleep(0)
    assert connection.heard == []
    connection.began = time.monotonic() + 100
    endings.sweep(connection.began)
    gevent.sleep(0)
    assert connection.heard == []


def test_a_request_within_its_time_is_left_alone(connection: Connection, endings: Endings) -> None:
    endings.sweep(connection.began + 0.5)
    gevent.sleep(0)
    assert connection.heard == []
    assert connection.exchange is not None
    assert connection.exchange.ended_by is None


def test_many_that_are_over_their_time_leave_others_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a database stands still, and a thousand requests have come to their deadline at once."""
    monkeypatch.setattr(BulkWork, "serving", BulkWork())
    seen: list[str] = []

    class Slow(Describe):
        def stack(self, item: InFlight) -> str:
            end = time.monotonic() + 0.001
            while time.monotonic() < end:
                pass
            seen.append("told")
            return ""

    def other() -> None:
        while True:
            seen.append("turn")
            gevent.sleep(0.0001)

    connections = [Connection() for _ in range(100)]
    server: Any = Server(*connections)
    beside = gevent.spawn(other)
    endings = Endings(server, Slow())
    endings.sweep(time.monotonic() + 2)
    endings.sweep(time.monotonic() + 2)
    assert len(seen) < 100, "the beat of the worker does not wait for them"
    for connection in connections:
        while not connection.heard:
            gevent.sleep(0.001)
        connection.go_on.set()
    beside.kill()
    assert seen.count("told") == 100
    assert max(len(list(run)) for what, run in groupby(seen) if what == "told") < 50
    gevent.joinall([connection.greenlet for connection in connections])


def test_why_it_ends_is_kept_with_the_request(connection: Connection, endings: Endings) -> None:
    endings.sweep(connection.began + 2)
    assert connection.exchange is not None
    assert isinstance(connection.exchange.ended_by, RequestTimeout)
    assert connection.exchange.phase == "running"

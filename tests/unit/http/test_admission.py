"""The admission, in a real hub."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import get_hub

from djworker.http.admission import AdmissionQueue
from djworker.http.concurrency import ConcurrencyLimit


@pytest.fixture
def concurrency() -> ConcurrencyLimit:
    return ConcurrencyLimit(100)


@pytest.fixture
def admission(concurrency: ConcurrencyLimit) -> AdmissionQueue:
    return AdmissionQueue(concurrency)


@pytest.fixture
def readable() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Have the hub call something once in the same turn in which it sees what is readable."""
    ends = socket.socketpair()
    ends[1].send(b"x")
    watchers = []

    def start(callback: Callable[[], None]) -> None:
        watcher = get_hub().loop.io(ends[0].fileno(), 1)
        watchers.append(watcher)

        def called() -> None:
            watcher.stop()
            callback()

        watcher.start(called)

    yield start
    for watcher in watchers:
        watcher.close()
    for end in ends:
        end.close()


def let_pass(number: int, through: list[Any]) -> None:
    """Let the hub turn until so many have begun, and then once more for those that should not."""
    with gevent.Timeout(20):
        while len(through) < number:
            gevent.sleep(0.001)
    gevent.sleep(0.001)


def waits(turns: list[int]) -> Callable[[], bool]:
    """A beginning that leads to a wait."""

    def begin() -> bool:
        turns.append(get_hub().loop.iteration)
        return True

    return begin


def test_of_those_that_wait_one_begins_in_each_turn(admission: AdmissionQueue, concurrency: ConcurrencyLimit) -> None:
    concurrency.taken = 1
    turns: list[int] = []
    for _ in range(5):
        admission.queue(waits(turns))
    let_pass(5, turns)
    assert turns == sorted(set(turns))
    assert len(turns) == 5


@pytest.mark.parametrize("under_way", [0, 1])
def test_those_that_end_at_once_share_a_turn(
    admission: AdmissionQueue, concurrency: ConcurrencyLimit, under_way: int
) -> None:
    concurrency.taken = under_way
    turns: list[int] = []
    for _ in range(5):
        admission.queue(lambda: turns.append(get_hub().loop.iteration))
    let_pass(5, turns)
    assert len(turns) == 5
    assert len(set(turns)) == 1


def test_they_share_it_for_a_millisecond(admission: AdmissionQueue, concurrency: ConcurrencyLimit) -> None:
    concurrency.taken = 1
    turns: list[int] = []

    def begin() -> None:
        turns.append(get_hub().loop.iteration)
        end = time.thread_time() + 0.0006
        while time.thread_time() < end:
            pass

    for _ in range(10):
        admission.queue(begin)
    let_pass(10, turns)
    assert max(turns.count(turn) for turn in turns) <= 2
    assert len(turns) == 10


def test_what_is_under_way_goes_first(
    admission: AdmissionQueue, concurrency: ConcurrencyLimit, readable: Callable[[Callable[[], None]], None]
) -> None:
    said: list[str] = []

    def begin(name: str) -> bool:
        concurrency.taken += 1
        said.append(f"{name} begins")

        def end() -> None:
            said.append(f"{name} ends")
            concurrency.taken -= 1

        readable(end)
        return True

    for name in "abc":
        admission.queue(lambda name=name: begin(name))  # type: ignore[misc]
    let_pass(6, said)
    assert said == ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]


def test_of_those_who_wait_for_somebody_that_works_in_pieces_more_than_one_begins(
    admission: AdmissionQueue, concurrency: ConcurrencyLimit
) -> None:
    """With sleep(0) between its pieces, gevent lets fifty of them pass in a turn."""
    concurrency.taken = 1
    turns: list[int] = []

    def work() -> None:
        while len(turns) < 20:
            end = time.thread_time() + 0.001
            while time.thread_time() < end:
                pass
            gevent.sleep(0)

    for _ in range(20):
        admission.queue(waits(turns))
    gevent.spawn(work).join(5)
    assert len(turns) == 20
    assert len(set(turns)) <= 3


def test_who_comes_later_is_called_later(admission: AdmissionQueue, concurrency: ConcurrencyLimit) -> None:
    concurrency.taken = 1
    called: list[int] = []

    def first() -> None:
        called.append(1)
        admission.queue(lambda: called.append(3))

    admission.queue(first)
    admission.queue(lambda: called.append(2))
    let_pass(3, called)
    assert called == [1, 2, 3]


def test_an_empty_queue_lets_the_hub_sleep(admission: AdmissionQueue, concurrency: ConcurrencyLimit) -> None:
    concurrency.taken = 1
    called: list[int] = []
    for number in range(3):
        admission.queue(lambda number=number: called.append(number))  # type: ignore[misc]
    let_pass(3, called)
    before = get_hub().loop.iteration
    gevent.sleep(0.05)
    # One turn for the timer, and one or two around it; a hub that does not sleep makes thousands.
    assert get_hub().loop.iteration - before < 10
    assert called == [0, 1, 2]
    admission.queue(lambda: called.append(3))
    let_pass(4, called)
    assert called == [0, 1, 2, 3]

"""ConcurrencyLimit, in the hub but without time."""

from __future__ import annotations

from dataclasses import dataclass

import gevent
import pytest

from djworker.bug import Bug
from djworker.http.concurrency import ConcurrencyLimit

LONG = 1000.0


@dataclass
class Holder:
    """A connection, as far as it matters here."""

    has_permit: bool = False


def taken_up(concurrency: ConcurrencyLimit) -> Holder:
    """One that has the only permit."""
    holder = Holder()
    assert concurrency.acquire(holder, LONG)
    return holder


def queue_up(concurrency: ConcurrencyLimit, names: str) -> dict[str, Holder]:
    """Start a greenlet for each name; each notes its name when it gets a permit."""
    got: dict[str, Holder] = {}

    def note(name: str) -> None:
        holder = Holder()
        if concurrency.acquire(holder, LONG):
            got[name] = holder

    for name in names:
        gevent.spawn(note, name)
    gevent.sleep(0)
    return got


def test_first_come_first_served() -> None:
    concurrency = ConcurrencyLimit(1)
    last = taken_up(concurrency)
    got = queue_up(concurrency, "abc")
    for expected in ("a", "ab", "abc"):
        concurrency.give_back(last)
        gevent.sleep(0.001)
        assert "".join(got) == expected
        assert concurrency.taken == 1
        last = got[expected[-1]]


def test_while_more_run_than_may_none_begins() -> None:
    concurrency = ConcurrencyLimit(1)
    first, second = taken_up(concurrency), Holder()
    concurrency.resume(second)
    got = queue_up(concurrency, "a")
    concurrency.give_back(first)
    gevent.sleep(0.001)
    assert (got, concurrency.taken) == ({}, 1)
    concurrency.give_back(second)
    gevent.sleep(0.001)
    assert (list(got), concurrency.taken) == (["a"], 1)


def test_a_wait_has_an_end() -> None:
    concurrency = ConcurrencyLimit(1)
    first, second = taken_up(concurrency), Holder()
    assert not concurrency.acquire(second, 0.001)
    assert not second.has_permit
    assert not concurrency.queue
    concurrency.give_back(first)
    assert concurrency.taken == 0


@pytest.mark.parametrize("move", ["acquire", "resume"])
def test_a_second_permit_is_a_bug(move: str) -> None:
    concurrency = ConcurrencyLimit(9)
    holder = taken_up(concurrency)
    with pytest.raises(Bug, match="a second permit"):
        getattr(concurrency, move)(holder, *([LONG] if move == "acquire" else []))
    assert (holder.has_permit, concurrency.taken, len(concurrency.queue)) == (True, 1, 0)


def test_what_is_not_there_cannot_be_given_back() -> None:
    concurrency = ConcurrencyLimit(1)
    holder = taken_up(concurrency)
    for _ in range(3):
        concurrency.give_back(holder)
        assert (holder.has_permit, concurrency.taken) == (False, 0)


@pytest.mark.parametrize("when", ["waiting", "granted"])
def test_a_killed_waiter_leaves_no_permit_behind(when: str) -> None:
    concurrency = ConcurrencyLimit(1)
    first, second = taken_up(concurrency), Holder()
    waiter = gevent.spawn(concurrency.acquire, second, LONG)
    gevent.sleep(0)
    if when == "granted":
        # It has its turn, but does not know yet.
        concurrency.give_back(first)
        assert concurrency.taken == 1
    waiter.kill()
    concurrency.give_back(first)
    # It may have had its permit before the kill came; then it is its own to give back.
    assert concurrency.taken == second.has_permit
    assert not concurrency.queue

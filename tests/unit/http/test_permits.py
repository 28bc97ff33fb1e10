"""Permits, in the hub but without time."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event

from djworker.http.permits import Permits

LONG = 1000.0


def queue_up(permits: Permits, names: str) -> list[str]:
    """Start a greenlet for each name; each notes its name when it gets a permit."""
    got: list[str] = []
    for name in names:
        gevent.spawn(lambda name=name: permits.acquire(LONG) and got.append(name))
    gevent.sleep(0)
    return got


def test_first_come_first_served() -> None:
    permits = Permits(1)
    assert permits.take_free()
    assert not permits.take_free()
    got = queue_up(permits, "abc")
    for expected in ("a", "ab", "abc"):
        permits.release()
        gevent.sleep(0.001)
        assert "".join(got) == expected
        assert permits.taken == 1


def test_the_accept_loop_stands_in_the_queue() -> None:
    permits = Permits(1)
    calls: list[int] = []
    permits.on_free = lambda: calls.append(permits.taken)
    assert permits.offers()
    permits.take_free()
    got = queue_up(permits, "a")
    assert not permits.offers()
    assert not permits.offers()
    got += queue_up(permits, "b")
    permits.release()
    gevent.sleep(0.001)
    assert (got, calls) == (["a"], [])
    permits.release()
    assert calls == [0], "the accept loop has its turn, and the permit"
    assert permits.offers()
    permits.take_free()
    gevent.sleep(0.01)
    assert permits.taken == 1


def test_what_the_accept_loop_does_not_use_goes_on() -> None:
    permits = Permits(1)
    permits.take_free()
    assert not permits.offers()
    done = Event()
    gevent.spawn(lambda: permits.acquire(LONG) and done.set())
    gevent.sleep(0)
    permits.release()
    assert done.wait(LONG)
    assert permits.taken == 1


def test_a_wait_has_an_end() -> None:
    permits = Permits(1)
    permits.take_free()
    assert not permits.acquire(0.001)
    assert not permits.contended
    permits.release()
    assert permits.taken == 0


@pytest.mark.parametrize("when", ["waiting", "granted"])
def test_a_killed_waiter_leaves_no_permit_behind(when: str) -> None:
    permits = Permits(1)
    permits.take_free()
    waiter = gevent.spawn(permits.acquire, LONG)
    gevent.sleep(0)
    if when == "granted":
        # It has its turn, but does not know yet.
        permits.release()
        assert permits.taken == 1
    waiter.kill()
    if when == "waiting":
        permits.release()
    # It may have had its permit before the kill came; then it is its own to give back.
    assert permits.taken == (waiter.value is True)
    assert not permits.contended

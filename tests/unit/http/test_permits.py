"""Permits, in the hub but without time."""

from __future__ import annotations

import gevent
import pytest

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
    permits.taken = 1
    got = queue_up(permits, "abc")
    for expected in ("a", "ab", "abc"):
        permits.release()
        gevent.sleep(0.001)
        assert "".join(got) == expected
        assert permits.taken == 1


def test_while_more_run_than_may_none_begins() -> None:
    permits = Permits(1)
    permits.taken = 1
    permits.resume()
    got = queue_up(permits, "a")
    permits.release()
    gevent.sleep(0.001)
    assert (got, permits.taken) == ([], 1)
    permits.release()
    gevent.sleep(0.001)
    assert (got, permits.taken) == (["a"], 1)


def test_a_wait_has_an_end() -> None:
    permits = Permits(1)
    permits.taken = 1
    assert not permits.acquire(0.001)
    assert not permits.queue
    permits.release()
    assert permits.taken == 0


@pytest.mark.parametrize("when", ["waiting", "granted"])
def test_a_killed_waiter_leaves_no_permit_behind(when: str) -> None:
    permits = Permits(1)
    permits.taken = 1
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
    assert not permits.queue

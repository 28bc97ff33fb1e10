"""ConcurrencyLimit, in the hub but without time."""

from __future__ import annotations

import gevent
import pytest

from djworker.http.concurrency import ConcurrencyLimit

LONG = 1000.0


def queue_up(concurrency: ConcurrencyLimit, names: str) -> list[str]:
    """Start a greenlet for each name; each notes its name when it gets a permit."""
    got: list[str] = []

    def note(name: str) -> None:
        if concurrency.acquire(LONG):
            got.append(name)

    for name in names:
        gevent.spawn(note, name)
    gevent.sleep(0)
    return got


def test_first_come_first_served() -> None:
    concurrency = ConcurrencyLimit(1)
    concurrency.taken = 1
    got = queue_up(concurrency, "abc")
    for expected in ("a", "ab", "abc"):
        concurrency.release()
        gevent.sleep(0.001)
        assert "".join(got) == expected
        assert concurrency.taken == 1


def test_while_more_run_than_may_none_begins() -> None:
    concurrency = ConcurrencyLimit(1)
    concurrency.taken = 1
    concurrency.resume()
    got = queue_up(concurrency, "a")
    concurrency.release()
    gevent.sleep(0.001)
    assert (got, concurrency.taken) == ([], 1)
    concurrency.release()
    gevent.sleep(0.001)
    assert (got, concurrency.taken) == (["a"], 1)


def test_a_wait_has_an_end() -> None:
    concurrency = ConcurrencyLimit(1)
    concurrency.taken = 1
    assert not concurrency.acquire(0.001)
    assert not concurrency.queue
    concurrency.release()
    assert concurrency.taken == 0


@pytest.mark.parametrize("when", ["waiting", "granted"])
def test_a_killed_waiter_leaves_no_permit_behind(when: str) -> None:
    concurrency = ConcurrencyLimit(1)
    concurrency.taken = 1
    waiter = gevent.spawn(concurrency.acquire, LONG)
    gevent.sleep(0)
    if when == "granted":
        # It has its turn, but does not know yet.
        concurrency.release()
        assert concurrency.taken == 1
    waiter.kill()
    if when == "waiting":
        concurrency.release()
    # It may have had its permit before the kill came; then it is its own to give back.
    assert concurrency.taken == (waiter.value is True)
    assert not concurrency.queue

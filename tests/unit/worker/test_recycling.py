"""When a worker has served enough."""

from __future__ import annotations

import os

import pytest

from djworker import process
from djworker.conf.table import Config
from djworker.worker.recycling import SAMPLES, Recycling

MIB = 1 << 20


def made(config: Config, pss: list[int] | None = None, fresh: int = 60 * MIB) -> Recycling:
    """A worker that was forked at 1000, and whose PSS is this, look by look."""
    values = iter(pss or ())
    return Recycling(config, fresh, 1000.0, lambda: next(values))


def test_the_limit_of_requests() -> None:
    recycling = made(Config(max_requests=100))
    assert recycling.reason(99, 1000.0) is None
    assert recycling.reason(100, 1000.0) == "max_requests"
    assert not recycling.pointless


def test_without_limits_no_worker_is_recycled() -> None:
    recycling = made(Config())
    recycling.weigh(10**12)
    assert recycling.reason(10**9, 10**9) is None
    assert not recycling.pointless


def test_jitter_spreads_the_limit_of_requests() -> None:
    config = Config(max_requests=100, max_requests_jitter=50)
    limits = set()
    for _ in range(300):
        recycling = made(config)
        limits.add(next(count for count in range(200) if recycling.reason(count, 1000.0)))
    assert min(limits) >= 100
    assert max(limits) <= 150
    assert len(limits) > 10


def test_a_lifetime_ends_and_not_for_all_at_once() -> None:
    ends = set()
    for _ in range(200):
        recycling = made(Config(max_lifetime=100))
        assert recycling.reason(0, 1089.9) is None
        assert recycling.reason(0, 1100.1) == "max_lifetime"
        ends.add(next(tenth for tenth in range(101) if recycling.reason(0, 1090.05 + tenth / 10)))
    assert len(ends) > 20


def test_memory_counts_after_several_looks_in_a_row() -> None:
    big, small = 210 * MIB, 190 * MIB
    recycling = made(Config(max_memory=200 * MIB), [big, big, small, big, big, big])
    reasons = []
    for _ in range(6):
        recycling.weigh(300 * MIB)
        reasons.append(recycling.reason(1, 1000.0))
    assert reasons == [None] * 5 + ["max_memory"]
    assert SAMPLES == 3


def test_what_is_shared_counts_in_parts() -> None:
    """500 MiB resident, of which a worker has 100 for itself: far from 200."""
    recycling = made(Config(max_memory=200 * MIB), [100 * MIB] * 9)
    for _ in range(9):
        recycling.weigh(500 * MIB)
    assert recycling.reason(1, 1000.0) is None


def test_where_little_is_resident_nothing_is_measured() -> None:
    recycling = made(Config(max_memory=200 * MIB))
    recycling.weigh(200 * MIB)  # asked for its PSS, it would raise
    assert recycling.reason(1, 1000.0) is None


def test_where_the_system_does_not_tell_resident_memory_counts() -> None:
    recycling = made(Config(max_memory=200 * MIB), [0] * SAMPLES)
    for _ in range(SAMPLES):
        recycling.weigh(201 * MIB)
    assert recycling.reason(1, 1000.0) == "max_memory"


def test_a_limit_below_what_a_fresh_worker_has_is_no_limit() -> None:
    """Its replacement would be too big as well, and so on for ever."""
    recycling = made(Config(max_memory=50 * MIB))
    recycling.weigh(100 * MIB)
    assert recycling.pointless
    assert recycling.reason(1, 1000.0) is None


def test_memory_that_is_held_shows() -> None:
    before = process.resident_bytes()
    assert before > MIB
    held = os.urandom(64 * MIB)
    assert process.resident_bytes() > before + 32 * MIB
    del held


@pytest.mark.parametrize("option", ["max_lifetime", "max_memory", "max_requests"])
def test_limits_are_off_by_default(option: str) -> None:
    assert getattr(Config(), option) == 0

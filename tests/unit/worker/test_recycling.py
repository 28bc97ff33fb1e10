"""When a worker has served enough."""

from __future__ import annotations

import os

import pytest

from djworker import process
from djworker.conf.table import Config
from djworker.worker.recycling import Recycling

MIB = 1 << 20


@pytest.mark.parametrize(
    "requests, memory, reason",
    [(99, 200 * MIB, None), (100, 200 * MIB, "max_requests"), (1, 200 * MIB + 1, "max_memory")],
)
def test_limits(requests: int, memory: int, reason: str | None) -> None:
    recycling = Recycling(Config(max_requests=100, max_memory=200 * MIB), fresh_memory=60 * MIB)
    assert recycling.reason(requests, memory) == reason
    assert not recycling.pointless


def test_without_limits() -> None:
    recycling = Recycling(Config(), fresh_memory=60 * MIB)
    assert recycling.reason(10**9, 10**12) is None
    assert not recycling.pointless


def test_jitter_spreads_the_limit_of_requests() -> None:
    config = Config(max_requests=100, max_requests_jitter=50)
    limits = set()
    for _ in range(300):
        recycling = Recycling(config, 0)
        limits.add(next(count for count in range(200) if recycling.reason(count, 0)))
    assert min(limits) >= 100
    assert max(limits) <= 150
    assert len(limits) > 10


def test_a_limit_below_what_a_fresh_worker_has_is_no_limit() -> None:
    """Its replacement would be too big as well, and so on for ever."""
    recycling = Recycling(Config(max_memory=50 * MIB), fresh_memory=60 * MIB)
    assert recycling.pointless
    assert recycling.reason(1, 100 * MIB) is None


def test_memory_that_is_held_shows() -> None:
    before = process.resident_bytes()
    assert before > MIB
    held = os.urandom(64 * MIB)
    assert process.resident_bytes() > before + 32 * MIB
    del held

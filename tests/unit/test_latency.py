"""Times of requests as counts in buckets: how near the quantiles come to the truth."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from djworker.ipc.latency import BOUNDS, BUCKETS, quantile


def counted(times: list[float]) -> list[int]:
    """As a worker counts them."""
    counts = [0] * BUCKETS
    for one in times:
        counts[bisect_left(BOUNDS, one)] += 1
    return counts


@given(st.lists(st.floats(0.00011, 99.0), min_size=1), st.sampled_from([0.5, 0.99]))
def test_a_quantile_is_true_within_a_third(times: list[float], part: float) -> None:
    times = sorted(times)
    rank = next(number for number in range(1, len(times) + 1) if number >= part * len(times))
    found = quantile(counted(times), part)
    assert found is not None
    assert times[rank - 1] / 1.34 <= found <= times[rank - 1] * 1.34


def test_without_requests_there_is_no_quantile() -> None:
    assert quantile([0] * BUCKETS, 0.5) is None


def test_what_takes_longer_than_the_last_bound_is_told_as_that() -> None:
    assert quantile(counted([5000.0]), 0.99) == BOUNDS[-1]


def test_bounds_grow_by_a_third_at_most() -> None:
    assert all(low < high <= low * 1.34 for low, high in pairwise(BOUNDS))

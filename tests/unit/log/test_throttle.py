"""One line per subject and minute."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from djworker.log.throttle import PERIOD, SUBJECTS, Throttle


def test_the_first_is_told_and_its_followers_are_counted() -> None:
    throttle = Throttle(60.0)
    assert throttle.admit("/a", 0.0) == 0
    assert throttle.admit("/a", 1.0) is None
    assert throttle.admit("/a", 59.0) is None
    assert throttle.admit("/b", 59.0) == 0
    assert throttle.admit("/a", 60.0) == 2
    assert throttle.admit("/a", 61.0) is None
    assert throttle.admit("/a", 120.0) == 1


def test_it_remembers_a_bounded_number_of_subjects() -> None:
    throttle = Throttle()
    for number in range(SUBJECTS + 1):
        assert throttle.admit(number, float(number) / SUBJECTS) == 0
    assert len(throttle) == SUBJECTS
    assert throttle.admit(0, 2.0) == 0
    assert throttle.admit(2, 2.0) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50))))
def test_nothing_is_lost_and_nothing_is_told_twice(steps: list[tuple[str, int]]) -> None:
    throttle, now = Throttle(), 1000.0
    told: dict[str, list[float]] = {}
    accounted, asked = 0, 0
    for subject, pause in steps:
        now += pause
        asked += 1
        left_out = throttle.admit(subject, now)
        if left_out is not None:
            accounted += 1 + left_out
            told.setdefault(subject, []).append(now)
    for subject, times in told.items():
        pending = throttle.admit(subject, now + PERIOD)
        assert pending is not None
        accounted += pending
        assert all(later - earlier >= PERIOD for earlier, later in pairwise(times))
    assert accounted == asked

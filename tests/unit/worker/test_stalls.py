"""What is a stall, and what only looks like one. Times in seconds."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from djworker.worker.stalls import NAP, Look, Stall, StallWatch

VIEW, OTHER = 1, 2


class Clock:
    """Takes looks at a hub."""

    def __init__(self, threshold: float = 0.5) -> None:
        self.watch = StallWatch(threshold)
        self.now = 100.0

    def see(
        self,
        after: float,
        turn: int,
        running: int,
        *,
        began: float = 0.0,
        counts: float | None = None,
        kept: float = 0.0,
    ) -> Stall | None:
        self.now += after
        return self.watch.look(Look(self.now, turn, began, running, after if counts is None else counts, kept))

    def look(self, after: float, turn: int, running: int, **kwargs: Any) -> bool:
        return self.see(after, turn, running, **kwargs) is not None


def test_a_view_that_runs_for_the_threshold_is_found_once() -> None:
    clock = Clock()
    began = clock.now + 0.05
    found = [clock.look(0.1, 1, VIEW, began=began) for _ in range(9)]
    assert found == [False] * 5 + [True] + [False] * 3
    assert clock.watch.candidate is not None
    assert abs(clock.watch.candidate.seconds(clock.now) - 0.85) < 1e-9


def test_the_look_at_the_threshold_comes_when_it_is_due() -> None:
    clock = Clock()
    clock.look(0.1, 1, VIEW, began=clock.now + 0.1)
    for _ in range(20):
        if clock.look(clock.watch.nap(clock.now), 1, VIEW):
            break
    assert clock.watch.candidate is not None
    assert 0.5 <= clock.watch.candidate.seconds(clock.now) < 0.511


def test_many_short_requests_in_one_turn_are_no_stall() -> None:
    clock = Clock()
    assert not any(clock.look(0.1, 1, number) for number in range(1, 50))


def test_one_that_waits_between_its_turns_is_no_stall() -> None:
    clock = Clock()
    assert not any(clock.look(0.1, turn, VIEW, began=clock.now) for turn in range(50))


def test_a_hub_that_waits_for_events_is_no_stall() -> None:
    clock = Clock()
    assert not any(clock.look(0.1, 1, 0) for _ in range(50))


def test_time_that_does_not_count_is_lost() -> None:
    clock = Clock()
    clock.look(0.1, 1, VIEW, began=clock.now)
    assert not clock.look(30.0, 1, VIEW, counts=0.1)
    assert clock.watch.candidate is not None
    assert abs(clock.watch.candidate.seconds(clock.now) - 0.2) < 1e-9


def test_c_code_that_kept_the_lock_is_found_by_one_look() -> None:
    """The thread could not look for 0.9 s, but it was awake: the turn began 0.8 s ago."""
    clock = Clock()
    clock.look(0.1, 1, 0)
    assert clock.look(0.9, 2, VIEW, began=clock.now + 0.1)
    assert clock.watch.candidate is not None
    assert abs(clock.watch.candidate.seconds(clock.now) - 0.8) < 1e-9


def test_c_code_that_kept_the_lock_between_two_looks_is_found_when_it_is_over() -> None:
    """The view ran for 0.05 s at the first look, and the thread waited for 0.7 s of the 0.9 until the second."""
    clock = Clock()
    clock.look(0.1, 1, VIEW, began=clock.now + 0.05)
    stall = clock.see(0.9, 3, 0, began=clock.now + 0.8, kept=0.7)
    assert stall is not None
    assert stall.number == VIEW
    assert abs(stall.seconds(clock.now + 60) - 0.75) < 1e-9
    assert clock.watch.candidate is None
    assert not clock.look(0.1, 3, 0)


def test_one_that_is_over_is_told_before_the_one_that_follows() -> None:
    clock = Clock()
    clock.look(0.1, 1, VIEW, began=clock.now)
    first = clock.see(1.9, 2, OTHER, began=clock.now + 0.9, kept=0.8)
    second = clock.see(0.1, 2, OTHER)
    assert first is not None
    assert second is clock.watch.candidate
    assert (first.number, second and second.number) == (VIEW, OTHER)


def test_the_lock_that_what_runs_now_has_kept_is_not_laid_to_what_ran_before() -> None:
    """Neither in the turn that began when it did, nor in the same."""
    clock = Clock()
    clock.look(0.1, 1, VIEW, began=clock.now)
    found = clock.see(0.9, 2, OTHER, began=clock.now + 0.1, kept=0.9)
    assert found is not None
    assert found.number == OTHER
    clock.look(0.1, 3, VIEW, began=clock.now)
    found = clock.see(0.9, 3, OTHER, kept=0.9)
    assert found is not None
    assert found.number == OTHER


def test_a_busy_machine_makes_no_stall_of_two_short_ones() -> None:
    """The thread was late by 2 s, but did not wait for the GIL; or did, while the machine was suspended."""
    clock = Clock()
    clock.look(0.1, 1, VIEW, began=clock.now)
    assert not clock.look(2.0, 2, OTHER, began=clock.now + 1.9, kept=0.01)
    assert not clock.look(2.0, 3, 0, kept=1.5, counts=0.1)


def test_a_stall_ends_where_something_else_runs() -> None:
    clock = Clock()
    for _ in range(8):
        clock.look(0.1, 1, VIEW, began=100.0)
    stall = clock.watch.candidate
    clock.look(0.1, 1, OTHER)
    assert stall is not None
    assert abs(stall.seconds(clock.now + 60) - 0.9) < 1e-9
    assert not clock.watch.found


steps = st.tuples(st.floats(0.01, 2.0), st.integers(1, 3), st.integers(0, 2), st.floats(0.0, 1.0), st.floats(0.0, 1.0))


@given(st.lists(steps, max_size=40))
def test_a_stall_is_never_longer_than_what_counts(looks: list[tuple[float, int, int, float, float]]) -> None:
    clock, counts_in_all = Clock(), 0.0
    for after, turn, running, counts, kept in looks:
        found = clock.see(after, turn, running, counts=after * counts, kept=after * kept)
        counts_in_all += after * counts
        for stall in (found, clock.watch.candidate):
            assert stall is None or 0 <= stall.seconds(clock.now) <= counts_in_all + 1e-6
        assert found is None or found.seconds(clock.now) >= clock.watch.threshold
        assert 0 < clock.watch.nap(clock.now) <= NAP

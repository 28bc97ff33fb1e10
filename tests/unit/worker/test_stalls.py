"""What is a stall, and what only looks like one. Times in seconds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from djworker.worker.stalls import NAP, Look, StallWatch

VIEW, OTHER = 1, 2


class Clock:
    """Takes looks at a hub."""

    def __init__(self, threshold: float = 0.5) -> None:
        self.watch = StallWatch(threshold)
        self.now = 100.0

    def look(self, after: float, turn: int, running: int, *, began: float = 0.0, counts: float | None = None) -> bool:
        self.now += after
        return self.watch.look(Look(self.now, turn, began, running, after if counts is None else counts))


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


def test_a_stall_ends_where_something_else_runs() -> None:
    clock = Clock()
    for _ in range(8):
        clock.look(0.1, 1, VIEW, began=100.0)
    stall = clock.watch.candidate
    clock.look(0.1, 1, OTHER)
    assert stall is not None
    assert abs(stall.seconds(clock.now + 60) - 0.9) < 1e-9
    assert not clock.watch.found


steps = st.tuples(st.floats(0.01, 2.0), st.integers(1, 3), st.integers(0, 2), st.floats(0.0, 1.0))


@given(st.lists(steps, max_size=40))
def test_a_stall_is_never_longer_than_what_counts(looks: list[tuple[float, int, int, float]]) -> None:
    clock, counts_in_all = Clock(), 0.0
    for after, turn, running, part in looks:
        found = clock.look(after, turn, running, counts=after * part)
        counts_in_all += after * part
        stall = clock.watch.candidate
        assert stall is None or 0 <= stall.seconds(clock.now) <= counts_in_all + 1e-6
        assert not found or (stall is not None and stall.seconds(clock.now) >= clock.watch.threshold)
        assert 0 < clock.watch.nap(clock.now) <= NAP

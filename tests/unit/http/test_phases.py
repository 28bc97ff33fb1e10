"""The table of a connection's phases."""

from __future__ import annotations

from itertools import product

import pytest

from djworker.bug import Bug
from djworker.deadlines import NEVER
from djworker.http.phases import MOVES, TO, ConnectionPhase, Phased


def in_phase(phase: ConnectionPhase) -> Phased:
    one = Phased(lambda timeout: 100 + timeout)
    one.phase = phase
    return one


@pytest.mark.parametrize("before, after", [*product(ConnectionPhase, ConnectionPhase)])
def test_what_is_not_in_the_table_raises(before: ConnectionPhase, after: ConnectionPhase) -> None:
    one = in_phase(before)
    if after in MOVES[before]:
        one.enter(after)
        assert one.phase is after
        assert TO[after][before] is after
        return
    with pytest.raises(Bug, match=f"bug: a connection cannot go from {before.name} to {after.name}"):
        one.enter(after)
    assert one.phase is before


def test_a_phase_has_the_deadline_that_it_is_given_or_none() -> None:
    one = in_phase(ConnectionPhase.RUNNING)
    one.enter(ConnectionPhase.BODY, 5)
    assert one.deadline == 105
    one.enter(ConnectionPhase.RUNNING)
    assert one.deadline == NEVER


@pytest.mark.parametrize("first_ends", [True, False])
def test_of_two_waits_for_the_peer_the_other_one_goes_on(first_ends: bool) -> None:  # noqa: FBT001 - a parameter
    one = in_phase(ConnectionPhase.RUNNING)
    writing = one.begin_wait(ConnectionPhase.WRITING, 5)
    reading = one.begin_wait(ConnectionPhase.BODY, 3)
    assert (one.phase, one.deadline) == (ConnectionPhase.BODY, 103)
    one.end_wait(writing if first_ends else reading)
    left = reading if first_ends else writing
    assert (one.phase, one.deadline) == (left.phase, left.deadline) == left
    one.end_wait(left)
    assert (one.phase, one.deadline) == (ConnectionPhase.RUNNING, NEVER)


def test_a_wait_that_ends_late_changes_nothing() -> None:
    """Its greenlet was forgotten by the application, and the connection has ended."""
    one = in_phase(ConnectionPhase.RUNNING)
    wait = one.begin_wait(ConnectionPhase.BODY, 3)
    one.enter(ConnectionPhase.CLOSED)
    one.end_wait(wait)
    assert one.phase is ConnectionPhase.CLOSED


def test_two_readers_of_a_body_are_a_bug() -> None:
    one = in_phase(ConnectionPhase.RUNNING)
    one.begin_wait(ConnectionPhase.BODY, 3)
    with pytest.raises(Bug, match="from BODY to BODY"):
        one.begin_wait(ConnectionPhase.BODY, 3)


def test_to_hurry_brings_a_deadline_nearer_and_makes_none() -> None:
    one = in_phase(ConnectionPhase.RUNNING)
    one.hurry(1)
    assert one.deadline == NEVER
    one.enter(ConnectionPhase.HEAD, 5)
    one.hurry(103)
    one.hurry(104)
    assert one.deadline == 103


def test_each_phase_can_end_and_is_reached() -> None:
    assert all(ConnectionPhase.CLOSED in after for after in MOVES.values())
    assert set().union(*MOVES.values()) == set(ConnectionPhase)

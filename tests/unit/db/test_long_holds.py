"""What is found by looking now and then."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from djworker.db.observe.long_holds import Held, LongHold, LongHolds


def held(statements: int = 1, *, ticket: int = 1, busy: bool = False, in_transaction: bool = True) -> Held:
    """One connection that was leased at 100."""
    return Held(ticket, 100.0, statements, busy, in_transaction)


def test_a_long_hold_is_found_once() -> None:
    holds = LongHolds(60.0, 0)
    assert holds.look(159.0, [held()]) == []
    assert holds.look(160.0, [held()]) == [LongHold("long_hold", 1, 60.0, 0.0)]
    assert holds.look(500.0, [held()]) == []


def test_another_lease_of_the_same_connection_is_another_one() -> None:
    holds = LongHolds(60.0, 0)
    assert len(holds.look(160.0, [held()])) == 1
    assert len(holds.look(161.0, [held(ticket=2)])) == 1


def test_idle_in_a_transaction_counts_from_the_first_look_without_a_statement() -> None:
    holds = LongHolds(0, 10.0)
    assert holds.look(105.0, [held(1)]) == []
    assert holds.look(114.0, [held(2)]) == []  # one ran in between, however short
    assert holds.look(123.0, [held(2)]) == []
    assert holds.look(124.5, [held(2)]) == [LongHold("idle_in_transaction", 1, 24.5, 10.5)]
    assert holds.look(200.0, [held(3)]) == []
    assert holds.look(300.0, [held(3)]) == []  # at most once per lease


def test_a_running_statement_is_not_idle() -> None:
    holds = LongHolds(0, 10.0)
    for now in (100.0, 150.0, 200.0):
        assert holds.look(now, [held(1, busy=True)]) == []
    assert holds.look(209.0, [held(1)]) == []
    assert holds.look(210.0, [held(1)]) == [LongHold("idle_in_transaction", 1, 110.0, 10.0)]


def test_outside_a_transaction_nobody_is_idle() -> None:
    """A lease of the whole request holds its connection while the view calls an API: long perhaps, but harmless."""
    holds = LongHolds(0, 10.0)
    assert holds.look(100.0, [held(in_transaction=False)]) == []
    assert holds.look(200.0, [held(in_transaction=False)]) == []
    assert holds.look(205.0, [held()]) == []


def test_zero_switches_off() -> None:
    assert not LongHolds(0, 0).wanted
    assert LongHolds(1, 0).wanted
    assert LongHolds(0, 1).wanted
    holds = LongHolds(0, 0)
    assert holds.look(100.0, [held()]) == []
    assert holds.look(1e9, [held()]) == []


def test_what_has_gone_back_is_forgotten() -> None:
    holds = LongHolds(60.0, 10.0)
    holds.look(100.0, [held(), held(ticket=2)])
    holds.look(101.0, [])
    assert not holds._seen


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.booleans()), max_size=60))
def test_idle_time_is_never_said_to_be_longer_than_it_is(steps: list[tuple[int, bool, bool]]) -> None:
    """Each step: so many seconds, a statement runs in them or not, and ends before the look or not."""
    holds, now, statements, last, told = LongHolds(0, 10.0), 100.0, 1, 100.0, 0
    for seconds, runs, busy in steps:
        now += seconds
        if runs:
            statements += 1
        if runs or busy:
            last = now - seconds if runs and not busy else now
        for finding in holds.look(now, [held(statements, busy=busy)]):
            told += 1
            assert finding.idle <= now - last
    assert told <= 1

"""When a pool looks for a server that takes writes."""

from __future__ import annotations

import itertools

from djworker.db.lease.standby import FIRST_LOOK, LAST_LOOK, RENEWAL, STRAGGLERS, Standby


def test_the_first_refused_write_is_looked_into_at_once() -> None:
    standby = Standby()
    assert standby.may_look(0)
    assert standby.answered(refuses=True, now=0)
    assert standby.refusing


def test_refused_writes_are_looked_into_once_per_step_however_many_come() -> None:
    standby = Standby()
    looks = []
    for tick in range(1000):
        if standby.may_look(tick / 100):
            looks.append(tick / 100)
            standby.answered(refuses=True, now=tick / 100)
    steps = [later - earlier for earlier, later in itertools.pairwise(looks)]
    assert steps[0] == FIRST_LOOK
    assert max(steps) <= LAST_LOOK + 0.01
    assert len(looks) <= 10 / LAST_LOOK + 3


def test_only_a_change_of_the_answer_is_news() -> None:
    standby = Standby()
    assert not standby.answered(refuses=False, now=0), "the application had asked for it"
    assert [standby.answered(refuses=answer, now=1) for answer in (True, True, False, False)] == [
        True,
        False,
        True,
        False,
    ]
    assert not standby.refusing


def test_a_session_that_was_on_its_way_to_the_old_server_is_no_news() -> None:
    """It began to connect before the name moved, and is asked after others have found the new server."""
    standby = Standby()
    standby.answered(refuses=True, now=0)
    assert standby.answered(refuses=False, now=1)
    assert not standby.answered(refuses=True, now=1.1)
    assert not standby.refusing
    assert not standby.answered(refuses=False, now=1.2), "told once"
    assert standby.answered(refuses=True, now=1 + STRAGGLERS), "the new server has become read-only as well"


def test_connections_are_renewed_once_for_a_crowd_of_good_byes() -> None:
    standby = Standby()
    assert [standby.may_renew(now) for now in (5, 5, 5.5, 5 + RENEWAL, 5 + RENEWAL)] == [
        True,
        False,
        False,
        True,
        False,
    ]

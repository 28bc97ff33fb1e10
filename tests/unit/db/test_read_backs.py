"""What may be read back in which session: decided by turns, without a database."""

from __future__ import annotations

from typing import Any

import pytest

from djworker.db.drivers.base import UNTOLD
from djworker.db.lease.pinning import Verdict
from djworker.db.lease.read_backs import ReadBacks
from djworker.db.lease.session_record import SessionRecord

OF_WRITE = Verdict(reads="LAST_INSERT_ID()", of_write=True)
OF_SEQUENCE = Verdict(reads="lastval()", of_sequence=True)
OF_LAST = Verdict(reads="FOUND_ROWS()")


class Conn:
    """A connection, as far as turns go."""

    def __init__(self) -> None:
        setup: Any = None
        self.lease_record = SessionRecord(setup)


class Contract:
    """The last statement's answer is always ours where the turn is."""

    reads_sequences = False

    def tells_of_last(self, *_: object) -> bool:
        return True


@pytest.fixture
def conn() -> Any:
    return Conn()


def lease() -> ReadBacks:
    contract: Any = Contract()
    driver: Any = None
    return ReadBacks(contract, driver)


def write(ours: ReadBacks, conn: Any, made: int = 1) -> None:
    """Take the connection, and run a statement that may make numbers."""
    ours.took(conn)
    conn.lease_record.statements += 1
    ours.number_taken(conn)
    ours.number_made(conn, made, cleared=False)


def test_what_was_left_is_ours_until_another_lease_takes_the_session(conn: Any) -> None:
    ours = lease()
    write(ours, conn)
    assert ours.session_for(OF_WRITE) is ours.session_for(OF_LAST) is ours.last_of_ours() is conn
    lease().took(conn)
    assert ours.session_for(OF_WRITE) is ours.session_for(OF_LAST) is ours.last_of_ours() is None


def test_a_wipe_ends_what_was_left(conn: Any) -> None:
    ours = lease()
    write(ours, conn)
    conn.lease_record.wiped()
    assert ours.session_for(OF_WRITE) is None


def test_a_read_of_ours_leaves_the_number_of_an_earlier_write(conn: Any) -> None:
    ours = lease()
    write(ours, conn)
    ours.took(conn)
    assert ours.wrote_in(conn)
    assert ours.session_for(OF_WRITE) is conn
    assert ours.tells_of_us(conn, OF_SEQUENCE)


def test_a_question_of_the_lease_itself_answers_for_no_statement(conn: Any) -> None:
    ours = lease()
    write(ours, conn)
    conn.lease_record.statements += 1
    ours.probed(conn)
    assert ours.session_for(OF_LAST) is None
    assert ours.session_for(OF_WRITE) is conn
    assert not ours.is_left_in(conn, OF_LAST)


def test_a_statement_that_did_not_run_makes_earlier_ones_unanswered(conn: Any) -> None:
    ours = lease()
    write(ours, conn)
    ours.missed()
    assert ours.session_for(OF_WRITE) is ours.session_for(OF_LAST) is None
    assert not ours.tells_of_us(conn, OF_SEQUENCE)


def test_an_untold_number_behind_one_in_another_session_is_in_doubt(conn: Any) -> None:
    ours, other = lease(), Conn()
    write(ours, conn)
    lease().took(other)  # type: ignore[arg-type]
    other.lease_record.statements += 1
    write(ours, other, UNTOLD)
    assert ours.in_doubt
    assert ours.unproved, "another lease has run a statement there"
    assert not ours.tells_of_us(other, OF_WRITE)  # type: ignore[arg-type]
    write(ours, other, 7)
    assert (ours.in_doubt, ours.unproved) == (False, False)


def test_an_untold_number_where_our_own_was_put_in_is_ours(conn: Any) -> None:
    ours = lease()
    lease().took(conn)
    conn.lease_record.statements += 1
    ours.took(conn)
    ours.number_put_in()
    ours.number_made(conn, UNTOLD, cleared=False)
    assert (ours.in_doubt, ours.unproved) == (False, False)


def test_a_number_that_was_never_told_cannot_be_put_in(conn: Any) -> None:
    ours, other = lease(), Conn()
    write(ours, conn, UNTOLD)
    ours.took(other)  # type: ignore[arg-type]
    ours.number_put_in()
    ours.number_made(other, UNTOLD, cleared=False)  # type: ignore[arg-type]
    assert ours.in_doubt


def test_a_number_of_a_sequence_is_told_where_no_other_lease_can_have_taken_one(conn: Any) -> None:
    ours = lease()
    write(ours, conn)
    assert ours.tells_of_us(conn, OF_SEQUENCE)
    theirs = lease()
    write(theirs, conn)
    assert not theirs.tells_of_us(conn, OF_SEQUENCE), "ours may be there"
    theirs.numbers_forgotten(conn)
    assert not theirs.tells_of_us(conn, OF_SEQUENCE), "the earlier one is gone"
    theirs.number_refused()
    theirs.numbers_forgotten(conn)
    assert theirs.tells_of_us(conn, OF_SEQUENCE)
    assert theirs.numbers_lost


def test_the_session_that_can_tell_an_untold_number_is_taken_next(conn: Any) -> None:
    ours, other = lease(), Conn()
    write(ours, conn, UNTOLD)
    ours.took(other)  # type: ignore[arg-type]
    assert ours.last is other
    ours.return_to_number()
    assert ours.last is conn

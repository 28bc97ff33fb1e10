"""What statements of a lease have left in sessions to be read back, and whether it is still ours. Pure: no round trip.

`LAST_INSERT_ID()`, `lastval()`, `FOUND_ROWS()`, and what client libraries tell by themselves, are about the last statement of a
session. A lease gives its session back between two statements, so that another lease's statement may be the last one by then.

Turns tell: `SessionRecord.turn` counts the leases that took the connection. As long as it is the turn that this lease had, the
session has what this lease left. Numbers are harder: a statement may make one, or none, and not every client library tells which.

* The number of a row (`made`) may be asked for in the session of our last write, if that write has made one. Where it may have
  made none, the number there is *in doubt* (an earlier one of ours may be elsewhere) or *unproved* (it may be another lease's).
* A number of a sequence is ours if no other lease can have taken one in that session, and if our last one is not *elsewhere*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djworker.db.drivers.base import UNTOLD

if TYPE_CHECKING:
    from djworker.db.lease.pinning import Contract, Verdict
    from djworker.db.lease.protocols import RawConnection, RawDriver

__all__ = ["ReadBacks"]


class ReadBacks:
    """[worker] The sessions of one lease, as far as they may be asked for what it left."""

    __slots__ = (
        "_cleared_turn",
        "_contract",
        "_driver",
        "_numbers_elsewhere",
        "_probed_turn",
        "_statements_before",
        "_took_numbers",
        "_wrote",
        "_wrote_turn",
        "in_doubt",
        "last",
        "last_turn",
        "made",
        "numbers_lost",
        "unproved",
    )

    def __init__(self, contract: Contract, driver: RawDriver) -> None:
        """contract, driver: of the pool that lends the sessions."""
        self._contract = contract
        self._driver = driver
        # The connection that was used last, and in which turn.
        self.last: Any = None
        self.last_turn = 0
        # Likewise for the last statement that may have left something to read back.
        self._wrote: Any = None
        self._wrote_turn = 0
        # The last number of a row that a statement has made; UNTOLD if the library does not tell it.
        self.made = 0
        # Statements on the connection, when it was taken.
        self._statements_before = 0
        # In which turn the lease asked something itself.
        self._probed_turn = -1
        # Whether a statement may have taken a number of a sequence, whether such a number may be in another session than the last
        # one, and whether the application was told that.
        self._took_numbers = self._numbers_elsewhere = self.numbers_lost = False
        # Whether the last number that is told where we last wrote may be of before; and whether it may be another lease's.
        self.in_doubt = self.unproved = False
        # In which turn our own number, or none, was put in the place of another lease's.
        self._cleared_turn = 0

    # -- what happens -----------------------------------------------------------------------------------------------

    def took(self, conn: RawConnection) -> None:
        """The lease has a connection, in a new turn."""
        record = conn.lease_record
        self._statements_before = record.statements
        turn = record.turn
        if conn is self._wrote:
            if turn == self._wrote_turn:
                self._wrote_turn = turn + 1
                if record.numbers == turn:
                    record.numbers = turn + 1
            else:
                self._wrote = None
        record.turn = self.last_turn = turn + 1
        self.last = conn

    def took_for_nothing(self, conn: RawConnection) -> None:
        """To take it was no statement that a read-back could be about."""
        self._statements_before = conn.lease_record.statements

    def missed(self) -> None:
        """A statement did not run: no earlier one answers for it."""
        self._wrote, self.last_turn = None, -1
        self._numbers_elsewhere = self._numbers_elsewhere or self._took_numbers

    def probed(self, conn: RawConnection) -> None:
        """The lease's own question was the last statement: it does not answer for the application's."""
        self._statements_before, self._probed_turn = conn.lease_record.statements, self.last_turn

    def number_made(self, conn: RawConnection, made: int, *, cleared: bool) -> None:
        """A statement has made the number of a row; UNTOLD: or none, and the library does not tell.

        cleared: nothing of other leases is in the session.
        """
        if made != UNTOLD:
            self.in_doubt = self.unproved = False
        elif not self.wrote_in(conn):
            put_in = self._cleared_turn == self.last_turn
            # If it has made none, the last one of ours is in another session, and what this one tells is another lease's.
            # One that was never told could not be put in.
            self.in_doubt = self.made == UNTOLD or (self.made != 0 and not put_in)
            self.unproved = not (put_in or cleared or self.is_first(conn))
        self._wrote, self._wrote_turn, self.made = conn, self.last_turn, made

    def number_taken(self, conn: RawConnection) -> bool:
        """A statement may have taken a number of a sequence: it is ours to ask for, if no other lease's can be there.

        Or none of our own: an earlier statement's, in another session, would be the last one if this has taken none.

        Returns:
            Whether the session must be kept for it.
        """
        record = conn.lease_record
        if record.numbers != record.turn:
            self._numbers_elsewhere = self._took_numbers
            record.numbers = record.turn if self.is_first(conn) else -1
        self._took_numbers = True
        return self._contract.reads_sequences

    def numbers_forgotten(self, conn: RawConnection) -> None:
        """The session knows of no number of a sequence any more: the next one there is ours."""
        self._numbers_elsewhere = self._took_numbers
        conn.lease_record.numbers = conn.lease_record.turn

    def number_put_in(self) -> None:
        """Our own number of a row, or none, is in the place of another lease's."""
        self._cleared_turn = self.last_turn

    def number_refused(self) -> None:
        """The application was told that its number of a sequence is lost. The next one is told again."""
        self.numbers_lost = self.numbers_lost or self._took_numbers
        self._took_numbers = self._numbers_elsewhere = False

    def return_to_number(self) -> None:
        """Have the session in which the last number was made taken next: no other can tell it."""
        self.last, self.last_turn = self._wrote, self._wrote_turn

    # -- what is ours -----------------------------------------------------------------------------------------------

    def last_of_ours(self) -> Any:
        """The connection that was used last, if no other lease has had it since; else None."""
        last = self.last
        return last if last is not None and last.lease_record.turn == self.last_turn else None

    def session_for(self, verdict: Verdict) -> Any:
        """The connection in which the answer was left, if no other lease has had it since; else None."""
        if verdict.of_write:
            conn, turn = self._wrote, self._wrote_turn
        else:
            conn, turn = self.last, self.last_turn
            if turn == self._probed_turn:
                return None
        return conn if conn is not None and conn.lease_record.turn == turn else None

    def is_left_in(self, conn: RawConnection, verdict: Verdict) -> bool:
        """Whether this lease has left what a statement asks for: others have used the session before it was held."""
        if verdict.of_sequence:
            return True
        if verdict.of_write:
            return self.wrote_in(conn)
        return conn.lease_record.statements > self._statements_before

    def tells_of_us(self, conn: RawConnection, verdict: Verdict) -> bool:
        """Whether the answer cannot be of another lease's statement, although the last one in the session was ours."""
        if verdict.of_sequence:
            return not self._numbers_elsewhere and conn.lease_record.numbers == conn.lease_record.turn
        if verdict.of_write:
            return not self.in_doubt
        return self._contract.tells_of_last(verdict, self._driver, conn)

    def wrote_in(self, conn: RawConnection) -> bool:
        """Whether the last number that was made in this session is ours."""
        return self._wrote is conn and self._wrote_turn == self.last_turn

    def is_first(self, conn: RawConnection) -> bool:
        """Whether no other lease has run a statement in this session since it was new, or wiped."""
        return self._statements_before == conn.lease_record.wiped_at

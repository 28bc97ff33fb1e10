"""What the pool asks of a database driver: ten verbs, and nothing else."""

from __future__ import annotations

from typing import Protocol, TypeVar

C = TypeVar("C")


class Useless(Exception):
    """A driver's word for a connection that shall be replaced by a new one at once, wanted by a waiter or not."""


class PoolDriver(Protocol[C]):
    """[worker] One kind of physical connection, seen from the pool.

    A connection must be hashable by identity. Every verb but `is_broken`, `busy`, `ended_by_hand`, `explain` and `forget`
    may switch greenlets; those five must not, and must not raise. The verbs that may switch run in the pool's own greenlets,
    which are killed (`GreenletExit`) when they overrun their time: leave no open socket behind when a `BaseException` passes.
    """

    def connect(self) -> C:
        """Open a connection, set up and ready for use; close it again if the set-up fails."""
        ...

    def close(self, conn: C, /) -> None:
        """Say good-bye to the server and close. Called once per connection, also for broken ones."""
        ...

    def check(self, conn: C, /) -> None:
        """Raise if the server does not answer on this connection. One round trip."""
        ...

    def is_broken(self, conn: C, /) -> bool:
        """Whether the client side already knows that this connection is of no more use. No I/O."""
        ...

    def busy(self, conn: C, /) -> bool:
        """Whether a query was abandoned on it: sent, and its answer not read to the end. No I/O."""
        ...

    def cancel(self, conn: C, /) -> None:
        """Make the server stop the abandoned query, and return when it did. The pool closes the connection next."""
        ...

    def reset(self, conn: C, /) -> None:
        """Roll back, and forget all session state: `DISCARD ALL`, `COM_RESET_CONNECTION`, and the set-up again.

        Raises Useless for a connection that works, and whose server is of no use.
        """
        ...

    def ended_by_hand(self, error: BaseException, /) -> bool:
        """Whether `connect` raised this because the server let us in, and then ended that one session. No I/O."""
        ...

    def explain(self, error: BaseException, /) -> str:
        """Say why `connect` raised this, and what to do about it. No I/O, must not raise."""
        ...

    def forget(self, conn: C, /) -> None:
        """Let go of the local end without a word to the server. No I/O, must not raise.

        After a fork the socket is shared with the parent: a Terminate message from the child would end the *parent's*
        session. Putting `/dev/null` over the descriptor with `os.dup2` is safe even against the library's own
        finalizers; closing it is not, because they would later write to whatever has taken its number.
        Also called for a connection whose `close` did not end in time.
        """
        ...

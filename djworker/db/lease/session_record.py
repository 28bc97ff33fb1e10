"""What is known of a physical connection's session, from one lease of it to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from djworker.db.lease.session_settings import EMPTY

if TYPE_CHECKING:
    from djworker.db.lease.session_settings import Profile
    from djworker.db.lease.tape import Tape


@dataclass(slots=True, eq=False)
class SessionRecord:
    """[worker] Hangs on the client library's connection as `lease_record`, and ends with it."""

    #: What the receivers of `connection_created` did, to be repeated after a wipe.
    setup: Tape
    #: The number of the lease that took the connection last. A wipe counts as one.
    turn: int = 0
    #: When a statement was last answered (monotonic seconds).
    used_at: float = 0.0
    #: Statements so far: what watches a connection sees by it that something goes on.
    statements: int = 0
    #: The parameters that are set in the session.
    profile: Profile = EMPTY
    #: What no wipe undoes, in words; the connection is replaced.
    spoilt: str = ""
    #: Whether its server was seen to refuse writes.
    suspect: bool = False
    #: The turn whose numbers (`lastval`, `LAST_INSERT_ID`) the session has; 0 for none.
    numbers: int = 0
    #: How many statements there had been at the last wipe.
    wiped_at: int = 0
    #: The first row that MySQL's last write gave back (RETURNING), in the library's shape; empty if it gave none.
    returned: object = ()
    #: The last statement that MySQL answered, and its number among `statements`.
    answered: tuple[str | None, int] = ("", -1)

    def wiped(self) -> None:
        """The session has been reset: it has nothing of anyone, and the turn that it had is over."""
        self.profile = EMPTY
        self.numbers, self.wiped_at = 0, self.statements
        self.turn += 1

"""What a driver is: the verbs of one client library that the pool and the lease need, in one shape for all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Protocol, TypeVar

from djworker.deadlines import RequestEnded

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from djworker.db.drivers.news import News

C = TypeVar("C")

#: Seconds for the server to stop an abandoned query. The pool has a budget of its own around it.
CANCEL_TIMEOUT: Final = 5.0
#: Seconds for the server to end the statement of a request that is ended, and to say so. Then the connection goes, not to be
#: used again; the request is told once more two seconds after the first time.
ENDING_TIMEOUT: Final = 1.0
#: In the place of a number that the library does not tell.
UNTOLD: Final = -1

Params = dict[str, Any]


class Described(Protocol):
    """A cursor that has executed something."""

    @property
    def description(self) -> object:
        """Of its columns; None where there are none."""


class Driver(ABC, Generic[C]):
    """[worker] One client library, made to wait in gevent's hub. Stateless: one instance serves any number of pools.

    `connect` takes the keyword arguments of the library's own `connect`, as Django's `get_connection_params()` returns
    them. `is_closed`, `is_broken`, `busy`, `in_transaction`, `autocommit` and `forget` never switch greenlets, and never
    raise.
    """

    name: ClassVar[str]
    connection_type: ClassVar[type[object]]  # what `connect` makes, and the type of its `info`
    info_type: ClassVar[type[object]] = object
    #: The types of its states, where they are more than numbers.
    states: ClassVar[Mapping[str, Callable[[Any], object]]] = {}
    last_tag_only: ClassVar[bool] = False  # whether `command_tags` knows but one of several statements in a string

    @property
    @abstractmethod
    def error(self) -> type[Exception]:
        """The library's DB-API `Error`."""

    def blocks_hub(self) -> str:
        """Why this process cannot use the driver without blocking its hub; empty when all is well."""
        return ""

    # -- for the pool ---------------------------------------------------------------------------------------------

    @abstractmethod
    def connect(self, params: Params) -> C:
        """Open a connection. Raises the library's errors; leaves nothing open when anything is raised."""

    @abstractmethod
    def close(self, conn: C) -> None:
        """Say good-bye, close, and return when the server has let go (or after CLOSE_TIMEOUT). Broken ones too."""

    @abstractmethod
    def check(self, conn: C) -> None:
        """One round trip. Raises the library's error if the connection is of no use."""

    @abstractmethod
    def is_closed(self, conn: C) -> bool:
        """Whether the library itself knows that the connection is over."""

    @abstractmethod
    def is_broken(self, conn: C) -> bool:
        """Whether the connection is known to be lost: the library saw it, or it is idle and the server hung up.

        A server that goes away says so on its idle connections; a look at the socket finds it without a round trip.
        """

    @abstractmethod
    def busy(self, conn: C) -> bool:
        """Whether an answer is under way or was abandoned half-read."""

    def occupied(self, conn: C) -> bool:
        """Whether the library can run no other statement until the present one has ended. Never raises."""
        return self.busy(conn)

    @abstractmethod
    def cancel(self, conn: C) -> None:
        """Make the server stop the abandoned query and return when it did, or after CANCEL_TIMEOUT.

        Close the connection afterwards. Raises the library's errors when the server cannot be told.
        """

    def ended(self, conn: C, error: BaseException | None) -> BaseException | None:  # noqa: ARG002 - for the driver whose library cannot raise it itself
        """What a statement has raised, if its request was ended in it; the error may stand for that. Told once.

        The connection is at rest then, or busy, or closed, and the server has heard of the end: nothing of it is to come.
        """
        return error if isinstance(error, RequestEnded) else None

    @abstractmethod
    def reset(self, conn: C) -> None:
        """Roll back and forget all session state. Afterwards the session is as it was after `connect`."""

    @abstractmethod
    def forget(self, conn: C) -> None:
        """Let go without a word to the server, who goes on talking with the parent process."""

    def new_password(self, conn: C, password: str | None) -> None:
        """The password of the connection's user has changed; for what is done on further connections."""

    def ended_by_hand(self, error: BaseException) -> bool:  # noqa: ARG002 - for the drivers that have an answer
        """Whether `connect` failed because the server let us in, and then ended that one session.

        An operator ends sessions there (`pg_terminate_backend`, KILL): the next attempt may succeed at once.
        """
        return False

    def inserted(self, conn: C, *, called: bool) -> int:  # noqa: ARG002 - for the drivers that have an answer
        """The number that the last statement has made, of which the server's function for the last one tells; 0 if none.

        Args:
            conn: the connection that it ran on.
            called: it was a CALL or an EXECUTE, or makes no row that has a number, so that its rows say nothing of it.

        Returns:
            The number, UNTOLD if there is one that the library does not tell, or 0.
        """
        return UNTOLD

    def warned(self, conn: C) -> bool:  # noqa: ARG002 - for the drivers that have an answer
        """Whether the last statement had warnings."""
        return False

    # -- for the lease --------------------------------------------------------------------------------------------

    @abstractmethod
    def in_transaction(self, conn: C) -> bool | None:
        """Whether the server is in a transaction, a failed one included; None if the library does not tell."""

    def in_failed_transaction(self, conn: C) -> bool:  # noqa: ARG002 - for the drivers that have an answer
        """Whether the server is in a transaction that can only be rolled back, even by a COMMIT."""
        return False

    @abstractmethod
    def autocommit(self, conn: C) -> bool:
        """The mode, from the client's knowledge."""

    @abstractmethod
    def set_autocommit(self, conn: C, value: bool) -> None:  # noqa: FBT001 - the shape of every library's own setter
        """Change the mode; no round trip if it is that already."""

    @abstractmethod
    def backend_id(self, conn: C) -> int:
        """The server's number for the session: PostgreSQL's backend PID, MySQL's thread id."""

    def news(self, error: BaseException | None) -> News | None:  # noqa: ARG002 - for the drivers that have an answer
        """What an error of a statement says of the server; None if it speaks of the statement alone."""
        return None

    @abstractmethod
    def refuses_writes(self, conn: C) -> bool:
        """Ask whether the server itself refuses all writes. On a session that was just reset; one round trip."""

    def plans(self, resolution: Callable[[C], Hashable]) -> object:  # noqa: ARG002 - for the drivers that have an answer
        """What the connections of one pool share about statements that the library prepares by itself; None if it does not.

        resolution: of a connection, the settings by which names of tables are resolved on it.
        """
        return None

    def share_plans(self, conn: C, plans: object) -> None:
        """A new connection joins those that share `plans`."""

    def stale_plan(self, conn: C) -> None:
        """The last statement was refused (`News.STALE_PLAN`): none of the pool's connections may use that plan again."""

    #: (parameters) -> what stands in the statement as it is, unquoted; empty if nothing does. None: nothing ever does.
    spliced: ClassVar[Any] = None

    def command_tags(self, cursor: Any) -> tuple[str, ...]:  # noqa: ARG002 - for the drivers that have an answer
        """PostgreSQL's command tags of what the cursor executed last, one per statement that is still known."""
        return ()

    def session_state_changed(self, conn: C, cursor: Described) -> bool | None:  # noqa: ARG002 - for the drivers that have an answer
        """Whether the server said that the statement changed session state; None if it does not say."""
        return None

"""What a lease asks of others' objects: of a client library's connection and cursor, and of Django's connection.

The libraries have no base in common, so their objects are told by what they can do. For the type checker alone: nothing of
this is looked at when the program runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from django.db.backends.utils import CursorWrapper
    from django.db.utils import DatabaseErrorWrapper

    from djworker.db.drivers.base import Driver
    from djworker.db.drivers.watch import Watch
    from djworker.db.lease.session_record import SessionRecord


class RawCursor(Protocol):
    """A cursor of the client library's, or Django's around it."""

    arraysize: int

    @property
    def connection(self) -> object:
        """That of the library; None once the cursor has been cut loose from it."""

    @property
    def description(self) -> object:
        """Of the columns; None where there are none."""

    def execute(self, sql: object, params: object = None, /) -> object:
        """Run one statement."""

    def fetchone(self) -> Sequence[Any] | None:
        """The next row: of columns whose types are the statement's business."""

    def fetchmany(self, *args: object, **more: object) -> Sequence[Any]:
        """The next rows."""
        ...

    def fetchall(self) -> Sequence[Any]:
        """The other rows."""
        ...

    def nextset(self) -> object:
        """Go to the next result."""

    def close(self) -> None:
        """Be of no use any more."""

    def __iter__(self) -> Iterator[object]: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> object: ...


class RawConnection(Protocol):
    """A physical connection: the client library's, made by one of our drivers, with what we note of it."""

    lease_record: SessionRecord

    @property
    def watch(self) -> Watch:
        """The watchers of its descriptor."""
        ...

    def cursor(self) -> RawCursor:
        """A cursor of the library's."""
        ...

    def commit(self) -> object:
        """End the transaction."""

    def rollback(self) -> object:
        """End the transaction."""


class Holding(Protocol):
    """A lease: what a client library's part asks of it."""

    @property
    def made(self) -> int:
        """The last number that a statement of the lease has made."""
        ...

    def held(self) -> Any:
        """The physical connection that it holds, if it does."""

    def opened(self, what: str) -> Any:
        """The physical connection, for code that does with it what it likes."""


class Door(Protocol):
    """What stands in Django's `connection.connection`, see `raw_connection`."""

    @property
    def lease(self) -> Holding:
        """The one behind it."""
        ...

    def commit(self) -> None:
        """End the transaction of the lease."""

    def rollback(self) -> None:
        """End the transaction of the lease."""

    def close(self) -> None:
        """End the lease."""


class Leasing(Protocol):
    """Django's connection on a lease, see `backends.mixin`: what a cursor asks of it."""

    @property
    def connection(self) -> Any:
        """The lease's face; a physical one within `physical()`."""

    def physical(self) -> AbstractContextManager[None]:
        """A physical connection stands in `connection`."""
        ...

    def raw_cursor(self, conn: RawConnection, name: str | None) -> RawCursor:
        """Django's own cursor on this physical connection."""
        ...


class Bare(Protocol):
    """Django's connection as the pool uses it, to set up a physical one."""

    alias: str
    connection: Any
    announce: Callable[[], None] | None

    def make_cursor(self, cursor: CursorWrapper) -> CursorWrapper:
        """Around each cursor."""
        ...

    def get_connection_params(self) -> dict[str, object]:
        """What the library connects with."""
        ...

    def get_new_connection(self, conn_params: dict[str, object]) -> RawConnection:
        """Connect, and no more."""
        ...

    def ensure_connection(self) -> None:
        """Connect and set up, unless that has been done."""

    def init_connection_state(self) -> None:
        """Set up."""

    def set_autocommit(self, autocommit: bool) -> None:  # noqa: FBT001 - Django's shape
        """Change the mode."""

    @property
    def wrap_database_errors(self) -> DatabaseErrorWrapper:
        """Have the library's errors become Django's."""
        ...

    def cursor(self) -> CursorWrapper:
        """One that executes on the physical connection."""
        ...

    def join_pool(self) -> None:
        """Set free: from now on it leases, like any other."""


if TYPE_CHECKING:
    #: A driver, whichever client library it is for.
    RawDriver = Driver[RawConnection]

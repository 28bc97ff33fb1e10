"""What becomes of a worker's connections in a child that a fork made: they stay the worker's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from djworker import process
from djworker.http.bulk import BulkWork
from djworker.http.connection import Connection

if TYPE_CHECKING:
    from djworker.http.server import Server

__all__ = ["forsake"]


class _Forked(Connection):
    """[a worker's child] The connection whose request has forked: the worker answers it.

    Where the child's copy of the request comes back from the application, with an answer, a piece of one or an exception, the
    child ends.
    """

    __slots__ = ()

    def _come_back(self, *_: object, **__: object) -> NoReturn:
        process.end_child()

    send = send_parts = send_file = may_persist = _next_head = _report = _end = _come_back

    def _failed(self, exchange: Any, error: BaseException) -> NoReturn:  # noqa: ARG002 - as in the base class
        process.end_child_with(error)


def forsake(server: Server, forker: Any) -> None:
    """[a worker's child] Close the copies of all connections, and see that none is answered from here.

    Args:
        server: the worker's.
        forker: the greenlet that forked, the only one that goes on.
    """
    BulkWork.serving = None
    for connection in (*server.busy, *server.idle_ones):
        connection.forsake()
        if connection._greenlet is forker:  # noqa: SLF001 - of a copy that no method may be called on
            connection.__class__ = _Forked
    for sock in server.arriving:
        sock.close()

"""Connections that a project leaves open while it is loaded: nothing waits for them, so they are closed for it."""

from __future__ import annotations

import gc
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, InterfaceError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def here() -> list[BaseDatabaseWrapper]:
    """The connection objects of this thread with something open in them."""
    return _open(connections.all(initialized_only=True))


def everywhere() -> list[BaseDatabaseWrapper]:
    """Django's connection objects with something open in them, wherever they are."""
    return among(gc.get_objects())


def among(things: Iterable[Any]) -> list[BaseDatabaseWrapper]:
    """Those with something open in them among these objects."""
    # type(), not isinstance(): Django's lazy objects answer for their __class__ by doing what they were to put off.
    return _open(each for each in things if issubclass(type(each), BaseDatabaseWrapper))


def _open(found: Iterable[BaseDatabaseWrapper]) -> list[BaseDatabaseWrapper]:
    return [each for each in found if vars(each).get("connection") is not None]


def close(found: Iterable[BaseDatabaseWrapper]) -> list[BaseDatabaseWrapper]:
    """Close these, but those inside `atomic()`; those that are open still are returned.

    Django opens another one at the next query. What a session had (locks, settings) no forked process could have used.
    """
    return [connection for connection in found if not _closed(connection)]


def _closed(connection: BaseDatabaseWrapper) -> bool:
    if connection.in_atomic_block:
        return False
    # A server that is away is no reason to keep it, and Django has forgotten it by then.
    with _from_any_thread(connection), suppress(DatabaseError, InterfaceError):
        connection.close()
        if (
            connection.connection is not None
        ):  # Django keeps an SQLite database in memory, of which each thread has another
            BaseDatabaseWrapper.close(connection)
    return connection.connection is None


@contextmanager
def _from_any_thread(connection: BaseDatabaseWrapper) -> Iterator[None]:
    connection.inc_thread_sharing()
    try:
        yield
    finally:
        connection.dec_thread_sharing()

"""Holding a connection by hand: for what neither the server nor the text of a statement shows."""

from __future__ import annotations

from contextlib import ContextDecorator
from typing import TYPE_CHECKING, Any

from django.db import connections

if TYPE_CHECKING:
    from collections.abc import Callable


class Sticky(ContextDecorator):
    """[worker] See `sticky`. One object may be entered any number of times, by any number of requests."""

    def __init__(self, using: str | None) -> None:
        self._using = using

    def _wrappers(self) -> list[Any]:
        aliases = [self._using] if self._using is not None else list(connections)
        return [wrapper for wrapper in map(connections.__getitem__, aliases) if not getattr(wrapper, "bare", True)]

    def __enter__(self) -> None:
        for wrapper in self._wrappers():
            wrapper.sticky_depth += 1
            if wrapper.lease is not None:
                wrapper.lease.stick()

    def __exit__(self, *_: object) -> None:
        for wrapper in self._wrappers():
            wrapper.sticky_depth -= 1
            if wrapper.lease is not None:
                wrapper.lease.unstick()


def sticky(using: str | Callable[..., Any] | None = None) -> Any:
    """Keep one connection for a block.

    `with sticky():`, or as a decorator, `@sticky` or `@sticky(using="other")`.

    For stored procedures and functions that leave state in their session, and for reading it back. The session is wiped
    at the end of the block. `using`: an alias; without it, all of them. Does nothing if connections are not leased.
    """
    if callable(using):
        return Sticky(None)(using)
    return Sticky(using)

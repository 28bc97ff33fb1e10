"""Tracers wrap a library's `connect()`. Ours makes a class of its own, so the wrapper is put around that."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

R = TypeVar("R")

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


def wrapped_as(library: ModuleType, connect: Callable[..., R]) -> Callable[..., R]:
    """What makes our connections, in the wrapper that the library's own `connect` has.

    Args:
        library: the module whose `connect` a project would call.
        connect: ours.

    Returns:
        `connect` itself where nothing is wrapped. wrapt's wrappers are known, which OpenTelemetry, Datadog and New Relic
        use: they keep the function that they call apart from what they do around it.
    """
    theirs = library.connect
    wrapper = getattr(theirs, "_self_wrapper", None)
    return connect if wrapper is None else type(theirs)(connect, wrapper)

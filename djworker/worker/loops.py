"""Event loops that a request waits for: an async view runs in one, in another greenlet than the request's."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

__all__ = ["cancel", "frames_of", "loop_of", "threads_of"]


def loop_of(frames: Iterable[FrameType]) -> asyncio.AbstractEventLoop | None:
    """Return the loop that a greenlet waits for; None where it waits for something else.

    Args:
        frames: where the greenlet is, the innermost first. One that runs a synchronous function for its loop is in that.
    """
    sync = sys.modules.get("asgiref.sync")
    if sync is None:
        return None
    waits = sync.AsyncToSync.__call__.__code__
    item = sys.modules["asgiref.current_thread_executor"]._WorkItem.run.__code__  # noqa: SLF001 - no public name
    for frame in frames:
        if frame.f_code is item:
            return None
        if frame.f_code is waits:
            return _run_for(sync.AsyncToSync.loop_thread_executors, frame.f_locals.get("current_executor"))
    return None


def _run_for(loops: dict[asyncio.AbstractEventLoop, Any], executor: object) -> asyncio.AbstractEventLoop | None:
    return next((loop for loop, its in list(loops.items()) if its is executor), None)


def cancel(loop: asyncio.AbstractEventLoop, why: str) -> None:
    """Cancel what the loop was made for; at its end it cancels all else itself. Does not wait."""
    tasks = asyncio.all_tasks(loop)
    first = [task for task in tasks if "new_loop_wrap" in getattr(task.get_coro(), "__qualname__", "")]
    for task in first or tasks:
        loop.call_soon_threadsafe(task.cancel, why)


def threads_of(loop: asyncio.AbstractEventLoop) -> set[int | None]:
    """Return the idents of the threads that work for the loop alone (``sync_to_async(thread_sensitive=False)``)."""
    executor = getattr(loop, "_default_executor", None)
    return {thread.ident for thread in getattr(executor, "_threads", ())}


def frames_of(loop: asyncio.AbstractEventLoop) -> list[list[FrameType]]:
    """Return where each of its tasks is, the innermost frame first."""
    return [list(_frames(task.get_coro()))[::-1] for task in asyncio.all_tasks(loop)]


def _frames(waiting: Any) -> Iterator[FrameType]:
    """Walk from a coroutine to what it waits for: the frame of one that is suspended leads nowhere."""
    while waiting is not None:
        kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(waiting, f"{kind}_frame")), None)
        if kind is None:
            return
        if (frame := getattr(waiting, f"{kind}_frame")) is not None:
            yield frame
        waiting = getattr(waiting, f"{kind}_yieldfrom" if kind == "gi" else f"{kind}_await", None)

"""Where a greenlet is, and which one has spawned it: what gevent and CPython know, asked in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["MOST_FRAMES", "spawners_of", "upwards"]

#: A view's greenlet may spawn one, that one another, and so on. An event loop's and a thread's that the loop has started are two.
GENERATIONS: Final = 5
#: The innermost frames of a stack that is shown. Django with its middleware is about thirty deep.
MOST_FRAMES: Final = 60


def spawners_of(greenlet: Any) -> Iterator[Any]:
    """Return the greenlet that has spawned this one, the one that has spawned that, and so on, as far as they live.

    Args:
        greenlet: any. One that gevent did not spawn, such as a thread's first, has no such greenlet.
    """
    for _ in range(GENERATIONS):
        spawning = getattr(greenlet, "spawning_greenlet", None)  # a weak reference, of gevent's
        greenlet = spawning() if spawning is not None else None
        if greenlet is None:
            return
        yield greenlet


def upwards(frame: FrameType | None) -> Iterator[FrameType]:
    """Return a frame and its callers."""
    while frame is not None:
        yield frame
        frame = frame.f_back

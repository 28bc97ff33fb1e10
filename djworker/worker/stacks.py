"""Stacks as text: of every greenlet, for an operator who asks what a worker is doing."""

from __future__ import annotations

import gc
import sys
import traceback
from typing import TYPE_CHECKING, Any

from greenlet import greenlet

from djworker.greenlets import spawners_of

if TYPE_CHECKING:
    from collections.abc import Container, Iterator


def all_stacks() -> str:
    """The stack of every greenlet that waits, and of every thread of this process.

    ``gevent.util.format_run_info`` walks down from the hub, which the mold has frozen out of the collector's sight: it would
    find nothing below.
    """
    return "\n".join((*map(_described, greenlets()), *_threads()))


def greenlets() -> Iterator[greenlet]:
    """Every greenlet that waits."""
    for thing in gc.get_objects():
        # type(), not isinstance(): Django's lazy objects answer for their __class__ by doing what they were to put off.
        if issubclass(type(thing), greenlet) and thing.gr_frame is not None:
            yield thing


def _described(waiting: greenlet) -> str:
    return f"{waiting!r}\n{''.join(traceback.format_stack(waiting.gr_frame))}"


def _threads() -> Iterator[str]:
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - the only way to another thread's stack
        yield f"thread {ident:#x}\n{''.join(traceback.format_stack(frame))}"


def is_running(one: Any) -> bool:
    """Whether it is the one that its thread is in: begun, not ended, and not put aside."""
    return bool(one) and one.gr_frame is None


def request_of(one: Any, requests: Container[int]) -> int | None:
    """Which of these requests (by the ids of their greenlets) has spawned a greenlet, itself or by others."""
    return next((id(spawner) for spawner in spawners_of(one) if id(spawner) in requests), None)

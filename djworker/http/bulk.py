"""Work without an end of its own: bodies, streams and pipelined requests share a part of each turn of the hub."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Final

from gevent import get_hub, getcurrent
from gevent._hub_local import get_hub_if_exists

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")

__all__ = ["BulkWork", "away_from_hub", "has_turns", "share"]

#: libev's highest priority, and its lowest: before and behind everything else of a turn.
FIRST: Final = 2
LAST: Final = -2
#: Seconds of each turn for all bulk work together. A turn itself costs about 20 µs, so it takes 1 % of the throughput.
SLICE: Final = 0.002

now = time.monotonic


class BulkWork:
    """[worker] Bounds what all long loops of a worker do in one turn of the hub.

    A loop around a system call that succeeds never waits, so it never lets the hub look for events: one fast client of one
    large upload stops the others. ``gevent.sleep(0)`` is no cure: gevent looks for events after fifty such pauses at the
    earliest, and the time of a piece differs (64 KiB of body are 20 µs of one block, or 50 ms of chunks of one byte).
    So each loop asks between two pieces, and what has no time left in this turn goes on at the end of a later one, in the
    order of the asking. It waits through the loop, not through gevent's callbacks.
    """

    __slots__ = ("_asked", "_awake", "_began", "_first", "_last", "_waiting")

    #: That of this worker; None in a mold, whose hub never turns, and in a child that a view has forked.
    serving: ClassVar[BulkWork | None] = None

    def __init__(self) -> None:
        # Switches of greenlets that had no time left.
        self._waiting: deque[Callable[[], Any]] = deque()
        self._first: Any = None
        self._last: Any = None
        self._awake: Any = None
        # When the turn began, and whether bulk work was done in it.
        self._began = 0.0
        self._asked = False

    def is_used_up(self) -> bool:
        """Tell whether this turn has no time left for bulk work, or other work waits for the next."""
        if not self._asked:
            self._watch()
        return bool(self._waiting) or now() - self._began > SLICE

    def _watch(self) -> None:
        """Begin to look when turns begin; it ends with the first turn without bulk work."""
        self._asked = True
        if self._first is None:
            loop = get_hub().loop
            self._first = loop.check(priority=FIRST)
            self._last = loop.check(priority=LAST)
            # It does nothing; while it is active, a turn does not wait for events.
            self._awake = loop.idle(priority=LAST)
        if not self._first.active:
            self._began = now()
            self._first.start(self._turn)

    def _turn(self) -> None:
        """[hub] A turn begins."""
        self._began = now()
        if self._asked:
            self._asked = False
        elif not self._waiting:
            self._first.stop()

    def pause(self) -> None:
        """Return in a later turn. Never called in the hub."""
        if not self._waiting:
            self._last.start(self._resume)
            self._awake.start(_nothing)
        switch = getcurrent().switch
        self._waiting.append(switch)
        try:
            get_hub().switch()
        except BaseException:
            # Killed, not resumed: another switch would come too late.
            with contextlib.suppress(ValueError):
                self._waiting.remove(switch)
            raise

    def _resume(self) -> None:
        """[hub] All else of this turn is done: go on with those that wait, at least one of them."""
        waiting = self._waiting
        start = self._began = now()
        for _ in range(len(waiting)):
            if not waiting:
                break
            waiting.popleft()()
            if now() - start > SLICE:
                break
        if not waiting:
            self._last.stop()
            self._awake.stop()


def share() -> None:
    """Go on in a later turn of the hub if long loops have had their part of this one: for loops of other people's code.

    Does nothing where there is no turn to share: outside a worker, in a native thread, or in the hub itself.
    """
    bulk = BulkWork.serving
    if bulk is not None and _in_a_greenlet() and bulk.is_used_up():
        bulk.pause()


def away_from_hub(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call in a native thread what may take long in the kernel, while others have their turn; at once where none waits.

    The function must neither import a module nor take a lock of ``threading``: under gevent both are gevent's.
    """
    if not has_turns():
        return function(*args, **kwargs)
    error, value = get_hub().threadpool.apply(_outcome, (function, args, kwargs))
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]


def has_turns() -> bool:
    """Whether others can have their turn while the caller waits: it is a greenlet of a worker."""
    return BulkWork.serving is not None and _in_a_greenlet()


def _outcome(function: Callable[..., Any], args: Any, kwargs: Any) -> tuple[BaseException | None, Any]:
    """Carry an exception past gevent, which prints the traceback of one in its threads."""
    try:
        return None, function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - raised in the greenlet that waits for it
        return error, None


def _in_a_greenlet() -> bool:
    hub = get_hub_if_exists()
    return hub is not None and getcurrent() is not hub


def _nothing() -> None:
    """Be called."""

"""How much time a request has, for views that say so themselves.

The option ``request_timeout`` is the time of every request. A view has another one with ``@deadline(5)``, any with
``@no_deadline``, and more with ``extend_deadline(30)`` while it runs; ``remaining()`` says what is left, for a service that is
asked in turn. All count from where the request began: its head was there, and it was its turn. The last word is the one that
holds, also for a streaming answer after the view has returned.

At the deadline `RequestTimeout` is raised where the request waits, and the client gets 504. Precise to half a second.

Outside of a request that ``runworkers`` serves (a test, a command, another server) nothing here does anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, Final, Protocol, TypeVar

__all__ = ["RequestTimeout", "deadline", "extend_deadline", "no_deadline", "remaining"]

View = TypeVar("View", bound="Callable[..., Any]")

#: Seconds: no deadline.
NEVER: Final = float("inf")
#: Where a decorated class has its seconds: those of a base count for its subclasses only until they have their own.
_OWN: Final = "_djworker_deadline"


class RequestEnded(BaseException):
    """[worker] A request is ended from outside. Our database drivers have the server end its statement before they raise it."""


class RequestTimeout(RequestEnded):
    """The request has had its time. No Exception, so that views do not take it for an error of theirs; `finally` runs.

    Code that catches it, to tidy up, raises it again. It is raised once more two seconds later, and then the client is cut off.
    """


class Clock(Protocol):
    """[worker] A request's time: its connection has it."""

    def time_left(self) -> float:
        """Seconds; infinite without a deadline, negative after it."""

    def allow(self, seconds: float) -> None:
        """Have the deadline so long after the request began; infinite for none."""

    def extend(self, seconds: float) -> None:
        """Have the deadline so much later, where there is one."""


class _CallingClock:
    """[worker] Where the calling request's clock is found. A worker sets it; elsewhere there is none."""

    find: Callable[[], Clock | None] = staticmethod(lambda: None)


def found_by(find: Callable[[], Clock | None]) -> None:
    """[worker] Say how the clock of the request is found that the calling code works for."""
    _CallingClock.find = staticmethod(find)


def remaining() -> float | None:
    """Return the seconds until the request's deadline, 0 after it; None without one, and outside of a request.

    That is what time-outs of clients take: ``httpx.get(url, timeout=remaining())``.
    """
    clock = _CallingClock.find()
    left = NEVER if clock is None else clock.time_left()
    return None if left == NEVER else max(0.0, left)


def extend_deadline(seconds: float) -> None:
    """Move the request's deadline. One that has none gets none.

    Args:
        seconds: that it has more than before; fewer if negative.

    Raises:
        ValueError: that is no number of seconds.
    """
    _checked(seconds, at_least=-NEVER)
    clock = _CallingClock.find()
    if clock is not None:
        clock.extend(seconds)


def deadline(seconds: float) -> Callable[[View], View]:
    """Make a decorator that gives requests of a view so much time, in place of ``request_timeout``.

    For functions, coroutine functions, methods, and classes with ``dispatch()``. Where several are around each other, the one
    next to the view holds; of a class and its base, the class's.

    Args:
        seconds: from where the request began, more than 0.

    Raises:
        ValueError: that is no number of seconds.
        TypeError: it was used without them, or on what is no view.
    """
    if callable(seconds):
        raise TypeError("@deadline needs its seconds: @deadline(5)")
    _checked(seconds, at_least=0)
    return lambda view: _decorated(view, float(seconds))


def no_deadline(view: View) -> View:
    """Let requests of a view take any time: an export, a stream of events.

    Raises:
        TypeError: it was used on what is no view.
    """
    return _decorated(view, NEVER)


def _checked(seconds: float, *, at_least: float) -> None:
    if type(seconds) not in (int, float) or not at_least < seconds < NEVER:
        raise ValueError(f"a deadline is a number of seconds{' above 0' if at_least == 0 else ''}, not {seconds!r}")
    try:
        float(seconds)
    except OverflowError:  # and Python refuses to print it if it is a little longer still
        about = f"{'-' if seconds < 0 else ''}10**{int(math.log10(abs(seconds)))}"
        raise ValueError(
            f"a deadline of about {about} seconds is too long to count; @no_deadline gives any time"
        ) from None


def _decorated(view: View, seconds: float) -> View:
    if isinstance(view, type):
        if not hasattr(view, "dispatch"):
            raise TypeError(f"{view.__name__} has no dispatch(): decorate its views")
        setattr(view, _OWN, seconds)
        view.dispatch = _around(view.dispatch, lambda itself: getattr(itself, _OWN))
        return view
    if not callable(view):
        raise TypeError(f"{view!r} is no view")
    return _around(view, lambda *_: seconds)


def _around(view: View, seconds_for: Callable[..., float]) -> View:
    """seconds_for: is called with the first argument, if there is one."""
    from asgiref.sync import iscoroutinefunction  # noqa: PLC0415 - it comes with Django, which a worker's server does without

    @wraps(view)
    def within(*args: Any, **more: Any) -> Any:
        _allow(seconds_for(*args[:1]))
        return view(*args, **more)

    @wraps(view)
    async def within_coroutine(*args: Any, **more: Any) -> Any:
        _allow(seconds_for(*args[:1]))
        return await view(*args, **more)

    return within_coroutine if iscoroutinefunction(view) else within  # type: ignore[return-value]


def _allow(seconds: float) -> None:
    clock = _CallingClock.find()
    if clock is not None:
        clock.allow(seconds)

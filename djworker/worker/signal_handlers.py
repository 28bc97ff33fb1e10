"""[mold, worker] What a project's own signal handler raises is for the request that set it, and never for another.

Python runs a handler in whatever runs at that moment: the hub, where an exception ended the worker, or another request. The
``signal.setitimer`` decorators that limit the time of a function count on a process that does one thing. Here the exception
goes to the greenlet that set the handler, while the same request runs in it; else it is told of in the log. Only in a worker:
the mold does one thing, and so does a child that a fork makes.
"""

from __future__ import annotations

import logging
import os
import signal
import weakref
from typing import TYPE_CHECKING, Any

import gevent
from gevent.exceptions import HubDestroyed
from greenlet import getcurrent

from djworker import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.hub import Hub

logger = logging.getLogger("djworker.worker")

#: What gevent has put in the place of the standard library's.
_set, _get = signal.signal, signal.getsignal
#: The process in which this holds.
_worker = 0


def install() -> None:
    """[mold] Take note of who sets a handler, from now on."""
    signal.signal = _set_noted  # type: ignore[assignment]
    signal.getsignal = _get_bare  # type: ignore[assignment]


def begin(hub: Hub) -> None:
    """[worker] Keep exceptions from greenlets that they do not concern."""
    global _worker  # noqa: PLW0603 - one process, one worker
    _worker = os.getpid()
    usual = hub.handle_error

    def handle_error(context: Any, type: type[BaseException], value: Any, tb: Any) -> None:  # noqa: A002 - the library's shape
        if issubclass(type, (HubDestroyed, SystemError)) or not (context is None or issubclass(type, hub.SYSTEM_ERROR)):
            usual(context, type, value, tb)
        elif context is None:
            _tell(value.with_traceback(tb), "")
        elif not issubclass(type, SystemExit):  # which ends a greenlet, as it ends a thread
            hub.print_exception(context, type, value, tb)

    hub.handle_error = handle_error  # type: ignore[assignment,method-assign]


def _tell(error: BaseException, name: str) -> None:
    text = f"a handler of the project for {name or 'a signal'} raised {type(error).__name__}, and no request waits for that"
    log.event(logger, logging.ERROR, "signal_handler_failed", text, signal=name, exc_info=error)


class _Noted:
    """A handler, and the request that set it."""

    def __init__(self, function: Callable[[int, Any], object]) -> None:
        self.function = function
        current = getcurrent()
        self._greenlet = weakref.ref(current)
        context = current.gr_context
        # A connection's next request runs in the same greenlet, and in another context.
        self._context = None if context is None else weakref.ref(context)

    def __call__(self, number: int, frame: Any) -> None:
        """Run it here, and see to it that an exception arrives where it belongs."""
        if os.getpid() != _worker or self._is_owner(getcurrent()):
            self.function(number, frame)
            return
        try:
            self.function(number, frame)
        except BaseException as error:  # noqa: BLE001 - it is raised in the greenlet that it is for
            gevent.get_hub().loop.run_callback(self._deliver, error, number)

    def _is_owner(self, greenlet: Any) -> bool:
        context = greenlet.gr_context
        return greenlet is self._greenlet() and context is not None and context is (self._context and self._context())

    def _deliver(self, error: BaseException, number: int) -> None:
        """[hub] Raise it in the request."""
        owner = self._greenlet()
        if owner is None or owner.dead or not self._is_owner(owner):
            _tell(error, signal.Signals(number).name)
        else:
            owner.throw(error)


def _set_noted(number: int, handler: Any) -> Any:
    """As ``signal.signal``."""
    return _bare(_set(number, _Noted(handler) if callable(handler) else handler))


def _get_bare(number: int) -> Any:
    """As ``signal.getsignal``."""
    return _bare(_get(number))


def _bare(handler: Any) -> Any:
    return handler.function if isinstance(handler, _Noted) else handler

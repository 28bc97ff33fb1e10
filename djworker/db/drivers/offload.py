"""Native threads for the few calls of client libraries that cannot be made to wait in the hub.

What runs there must neither import a module nor take a lock of `threading`: under gevent both are gevent's semaphores,
and between native threads a wake-up of theirs can be lost. Twenty first connects at once, each importing a module of
mysqlclient's, hung for ever in 13 of 80 processes.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - the first look-up of a name would import it, in one of gevent's native threads
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, ParamSpec, TypeVar, cast

from gevent import get_hub
from gevent.threadpool import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.hub import Hub

#: Our own pool: connects to a dead server would otherwise fill the hub's, and all DNS look-ups would wait for them.
THREADS: Final = 16

P = ParamSpec("P")
R = TypeVar("R")

_pools: dict[int, tuple[Hub, ThreadPool]] = {}


def _pool() -> ThreadPool:
    hub = get_hub()
    known = _pools.get(id(hub))
    if known is None or known[0] is not hub:
        known = _pools[id(hub)] = (hub, ThreadPool(THREADS, hub=hub))
    return known[1]


def stop() -> None:
    """[mold] End the threads: a copy of one does not run. Waits for calls that are under way."""
    while _pools:
        _, (_, pool) = _pools.popitem()
        pool.kill()


class Job(Generic[R]):
    """[worker] A call in a native thread. It outlives the greenlet that asked for it."""

    def __init__(self, function: Callable[..., R], *args: object, **kwargs: object) -> None:
        # gevent prints the traceback of a task that raises: the outcome is carried past it.
        self._outcome = _pool().spawn(_outcome, function, args, kwargs)

    def get(self) -> R:
        """Wait in the hub; the result, or what the call raised."""
        outcome = cast("_Outcome[R]", self._outcome.get())
        if outcome.error is None:
            return cast("R", outcome.value)
        try:
            raise outcome.error
        finally:
            del self, outcome  # the traceback has this frame: a connection's results would be left to the collector

    @property
    def over(self) -> bool:
        """Whether the thread is done with it."""
        return bool(self._outcome.ready())

    def wait(self) -> None:
        """Wait in the hub for the end, whatever it is."""
        self._outcome.wait()

    def whenever_done(self, consume: Callable[[R], object]) -> None:
        """When the call has succeeded, now or later, do this with its result, in a native thread too."""

        def dispose(outcome: Any) -> None:
            if outcome.value.error is None:
                Job(consume, outcome.value.value)

        self._outcome.rawlink(dispose)


class _Outcome(NamedTuple, Generic[R]):
    value: R | None
    error: BaseException | None


def _outcome(function: Callable[..., R], args: tuple[object, ...], kwargs: dict[str, object]) -> _Outcome[R]:
    try:
        return _Outcome(function(*args, **kwargs), None)
    except BaseException as error:  # noqa: BLE001 - raised again in the greenlet that waits for it
        return _Outcome(None, error)


def apply(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run in a native thread and wait in the hub. A greenlet that is killed meanwhile leaves the thread running."""
    return Job(function, *args, **kwargs).get()

"""[mold] What talking to a database leaves in a process, and what must not be copied into workers: pools, threads, the hub.

The project's threads and greenlets, and what is inside `atomic()`, are not ours to end; `leftovers` finds them.
"""

from __future__ import annotations

import gc
import sys
import threading
from typing import Any, Final

import gevent
from gevent._hub_local import get_hub_if_exists
from greenlet import GreenletExit

from djworker import process
from djworker.db.drivers import turns
from djworker.mold.patches.later_loop import LaterLoop

#: Seconds that threads get to end. A look-up of a name that is not answered takes the resolver's own 5 s and more.
TIMEOUT: Final = 0.5
#: Seconds between two looks at them.
PAUSE: Final = 0.001


def hang_up() -> None:
    """[a child of the mold] End its sessions: servers should not see their clients vanish."""
    from django.db import connections

    from djworker.db.lease import registry

    connections.close_all()
    registry.leave()


def close_connections() -> None:
    """Close Django's connections that nothing holds, so that the next stage opens its own."""
    from django.conf import settings

    from djworker.db import unheld

    if (
        settings.configured
    ):  # else there are none, and to look would load the settings, which a module is still to choose
        unheld.close(unheld.here())


def wipe() -> list[Any]:
    """Close Django's connections that nothing holds; close and forget the pools, if there are any, and all that they used.

    Returns:
        Django's connection objects that could not be closed.
    """
    from djworker.db import unheld
    from djworker.db.drivers import offload
    from djworker.db.lease import registry

    found = unheld.everywhere()
    left: list[Any] = unheld.close(found)
    if found or any(registry.pool_watches()):
        registry.end_all()
        offload.stop()
    return left


def let_threads_end() -> None:
    """Threads that have nothing more to do end when they get their turn: those of executors that are not referred to any more.

    Django runs an async view in such a thread. They are greenlets, and their executors may be in cycles.
    """
    if has_hub():
        # Without a thread there is nothing for it to find, and a full collection takes 30 ms with the shop.
        if threading.active_count() > 1:
            gc.collect()
        with turns.at_most(TIMEOUT):
            gevent.idle()


def destroy_hub() -> None:
    """The hub goes, with its own threads: each look-up by name has started one. The next greenlet that waits gets another hub.

    Call it where no greenlet waits: those that wait in it never go on.
    """
    hub = _hub()
    if hub is not None:
        _end_threads(hub)
        hub.destroy(destroy_loop=True)
        if not hub.dead:
            # It waits for more to do. Locks and events that were waited for once keep to their hub until that is dead.
            hub.throw(GreenletExit)
        hub.loop = LaterLoop()  # queues keep to it even then
        _await_native_threads()


def has_hub() -> bool:
    """Whether anything has waited in this thread."""
    return _hub() is not None


def _hub() -> Any:
    return get_hub_if_exists()


def _end_threads(hub: Any) -> None:
    """As the hub would, but it waits for them: a thread that is about to end is still a thread when the process is forked."""
    pool = hub._threadpool
    if pool is not None:
        pool.kill()
        with turns.at_most(TIMEOUT):
            while pool._worker_greenlets:
                gevent.sleep(PAUSE)


def _await_native_threads() -> None:
    """A thread has frames for some microseconds after its last word."""
    sleep = process.unpatched("time", "sleep")
    for _turn in range(round(TIMEOUT / PAUSE)):
        if len(sys._current_frames()) == 1:
            return
        sleep(PAUSE)


def idents_of_hub() -> set[int]:
    """The native threads that ``destroy_hub`` ends."""
    pool = getattr(_hub(), "_threadpool", None)
    return idents_of(pool) if pool is not None else set()


def idents_of(pool: Any) -> set[int]:
    """The native threads of a pool of gevent's."""
    return {worker._thread_ident for worker in pool._worker_greenlets}

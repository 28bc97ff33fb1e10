"""[worker] What was made while loading, is the same in all workers, and must not be."""

from __future__ import annotations

import sys
from typing import Any, Final

from gevent import get_hub

#: Pools of native threads that were made while loading. Each refuses every hub but its own, and that has ended.
thread_pools: Final[list[Any]] = []
#: Sockets of connections that were open in the mold, and have been ended there.
_sockets: Final[list[Any]] = []
#: Their watchers belong to a loop that is gone, and are never freed: that would be an operation on it.
_watchers: Final[list[Any]] = []


def adopt_thread_pools() -> None:
    """Have those pools begin their threads for this process's hub."""
    for pool in thread_pools:
        pool.hub = get_hub()
        pool.fork_watcher = pool.hub.loop.fork(ref=False)


def keep(socket: Any) -> None:
    """[mold] Note a socket that workers are to find ended."""
    _sockets.append(socket)


def renew() -> None:
    """Give this worker, just forked, what each worker needs for itself. Python does so for ``random`` by itself."""
    take_over_sockets()
    if (numbers := sys.modules.get("numpy.random")) is not None:
        numbers.seed()
    if (fake := sys.modules.get("faker.generator")) is not None:
        fake.random.seed()
    _separate_identifiers()
    adopt_thread_pools()
    _forget_children()


def _separate_identifiers() -> None:
    """Have ``uuid1`` take a clock sequence for each identifier, as Python's own code does.

    libuuid keeps one for a process that may not write its file, and a fork copies it: of 100,000 identifiers of each of two
    workers, 354 were the same.
    """
    identifiers: Any = sys.modules.get("uuid")
    if identifiers is not None:
        identifiers._generate_time_safe = None  # noqa: SLF001 - there is no public way to begin anew


def _forget_children() -> None:
    """What ``multiprocessing`` began while loading is the mold's: as its own children do, neither wait for it nor end it."""
    if (processes := sys.modules.get("multiprocessing.process")) is not None:
        processes._children.clear()  # noqa: SLF001 - there is no public way to begin anew
    if (util := sys.modules.get("multiprocessing.util")) is not None:
        util._finalizer_registry.clear()  # noqa: SLF001 - there is no public way to begin anew


def take_over_sockets() -> None:
    """Have the sockets of the mold wait in this process's hub, where they find the end of their connection."""
    hub = get_hub() if _sockets else None
    while hub is not None and _sockets:
        socket = _sockets.pop()
        number = socket.fileno()
        if number >= 0:
            _watchers.append((socket._read_event, socket._write_event))  # noqa: SLF001 - gevent has no public way
            socket.hub = hub
            socket._read_event, socket._write_event = hub.loop.io(number, 1), hub.loop.io(number, 2)  # noqa: SLF001 - there is no public way to begin anew

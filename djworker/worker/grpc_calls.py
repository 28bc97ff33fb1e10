"""Calls of gRPC wait in the hub (``init_gevent``): in workers, and in the mold where the project calls while it loads.

Most calls wait in C code of the thread that makes them. Streams, futures with callbacks and ``channel_ready_future`` have a
thread of gRPC's own, which waits there for them. Under gevent's patch it is a greenlet, and the loop stood still for ever.

In the mold, this begins with the first such thread and ends before the fork. gRPC then has a native thread for as long as it
believes that there is a channel, and it counts them wrongly: those that were opened before are not counted, and those that
were dropped without ``close()`` for ever. So we count along, and take back what is too much.
"""

from __future__ import annotations

import gc
import importlib
import sys
import time
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet, ref

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

__all__ = ["GrpcServerError", "begin_with", "connected", "end", "init", "note"]

#: Seconds for gRPC's threads to end before the fork. One that goes on is found, and told of.
TIMEOUT: Final = 1.0
_CORE: Final = "grpc._cython.cygrpc"
_SERVER: Final = "grpc._server"
_IDLE: Final = 0  # grpc_connectivity_state


class GrpcServerError(RuntimeError):
    """A gRPC server was begun while the project loads: no way makes its thread wait in the hub."""

    def __init__(self) -> None:
        super().__init__(
            "a server of gRPC does not run beside gevent: its thread waits in C code, and nothing else of the process would run."
            " Serve it by a command of its own, without djworker"
        )


class _Mold:
    """[mold] Whether calls wait in the hub, and how many channels gRPC believes that there are."""

    is_green = False
    channels = 0
    #: Those of gRPC that were begun.
    threads: Final[WeakSet[threading.Thread]] = WeakSet()
    #: Those that were open when all was loaded: gc shows them no longer when they are frozen.
    noted: tuple[ref[Any], ...] = ()
    #: gRPC's own functions that count, while ours stand in their place.
    replaced: tuple[Callable[[], object], Callable[[], object]] | None = None


def begin_with(thread: threading.Thread) -> None:
    """[mold] Have calls wait in the hub from now on, if this is a thread of gRPC's, about to begin.

    Raises:
        GrpcServerError: it is a server's.
    """
    module = getattr(getattr(thread, "_target", None), "__module__", None)
    if module == _SERVER:
        raise GrpcServerError
    if module == _CORE:
        _Mold.threads.add(thread)
        if not _Mold.is_green:
            _begin()


def end() -> None:
    """[mold] No calls wait in the hub any more, and no native thread of gRPC's waits for one.

    What has looked for a connection looks on for 0.2 s after the last one who asked.
    """
    deadline = time.monotonic() + TIMEOUT
    for thread in list(_Mold.threads):
        thread.join(max(0.0, deadline - time.monotonic()))
    _Mold.threads.clear()
    if _Mold.replaced is not None:
        _increment, decrement = _Mold.replaced
        for _ in range(_Mold.channels):
            decrement()
        sys.modules[_CORE].g_gevent_pool.join(TIMEOUT)  # the greenlet to which that native thread hands over
    _Mold.is_green, _Mold.channels = False, 0


def note() -> None:
    """[mold] Keep in mind which channels are open."""
    _Mold.noted = tuple(ref(channel) for channel in _open_channels())


def connected() -> list[tuple[Any, str]]:
    """[mold] The channels that were noted and are connected, each with its target. A fork copies the connection."""
    found = [(channel, channel._channel) for channel in _noted()]  # noqa: SLF001 - only C code knows its state
    return [
        (channel, inner.target().decode()) for channel, inner in found if inner.check_connectivity_state(False) != _IDLE
    ]


def init() -> None:
    """[worker, child of the mold] Have calls wait in this process's hub."""
    if "grpc" not in sys.modules:
        return
    importlib.import_module("grpc.experimental.gevent").init_gevent()
    core: Any = sys.modules[_CORE]
    if _Mold.replaced is not None:
        core.gevent_increment_channel_count, core.gevent_decrement_channel_count = _Mold.replaced
    for _channel in list(_noted())[_Mold.channels :]:
        core.gevent_increment_channel_count()
    _Mold.noted = ()


def _begin() -> None:
    importlib.import_module("grpc.experimental.gevent").init_gevent()
    _Mold.is_green = True
    core: Any = sys.modules[_CORE]
    if _Mold.replaced is None:
        _Mold.replaced = core.gevent_increment_channel_count, core.gevent_decrement_channel_count
        core.gevent_increment_channel_count, core.gevent_decrement_channel_count = _increment, _decrement
    for _channel in _open_channels():
        _increment()


def _increment() -> None:
    """[mold] A channel was opened."""
    if not _Mold.is_green:
        _begin()  # which finds it
    elif _Mold.replaced is not None:
        _Mold.channels += 1
        _Mold.replaced[0]()


def _decrement() -> None:
    """[mold] A channel was closed."""
    if _Mold.channels and _Mold.replaced is not None:
        _Mold.channels -= 1
        _Mold.replaced[1]()


def _noted() -> Iterator[Any]:
    return filter(_is_open, filter(None, (channel() for channel in _Mold.noted)))


def _open_channels() -> Iterator[Any]:
    module = sys.modules.get("grpc._channel")
    kind = getattr(module, "Channel", None)
    objects = gc.get_objects() if kind is not None else ()  # 10 ms, for nothing where gRPC is not there
    return (thing for thing in objects if type(thing) is kind and _is_open(thing))


def _is_open(channel: Any) -> bool:
    try:
        channel._channel.check_connectivity_state(False)  # noqa: SLF001 - there is no public way to ask
    except (AttributeError, ValueError):  # not made yet; closed
        return False
    return True

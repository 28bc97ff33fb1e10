"""[mold] ``multiprocessing`` waits in the hub: for what another process sends, until it reads, and for its locks.

gevent leaves it alone, so a worker that waited for a child's answer stood still; and ``Pool``, whose threads are greenlets here,
waited for an answer to a question that it had not sent yet, for ever.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
from multiprocessing import process as processes
from multiprocessing.connection import Connection
from multiprocessing.synchronize import SemLock
from typing import TYPE_CHECKING, Any, Final

from gevent import getcurrent, sleep
from gevent._hub_local import get_hub_if_exists  # the public one would make a hub in a child that needs none
from gevent.socket import wait_read, wait_write

from djworker import process

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes. pipe(7): poll(2) promises room for so many.
PIPE_BUF: Final = select.PIPE_BUF
#: Seconds between two looks at a lock that another process has: no descriptor tells of it.
_FIRST_NAP, _LONGEST_NAP = 0.001, 0.02
_poll = process.unpatched("select", "poll")
_make_methods: Final[Callable[[Any], None]] = SemLock._make_methods  # type: ignore[attr-defined]


def install() -> None:
    """Use it from now on."""
    Connection._recv.__defaults__ = (_read,)  # type: ignore[attr-defined]
    Connection._send = _send  # type: ignore[attr-defined]
    SemLock._make_methods = _make_green_methods  # type: ignore[attr-defined]
    SemLock.__enter__ = lambda lock: lock.acquire()  # type: ignore[method-assign]
    _hide_program()


def _hide_program() -> None:
    """Have a spawned child not import the program: that is the mold, which would patch it, and its threads would stand still."""
    program = sys.modules["__main__"]
    program.__spec__ = None
    program.__dict__.pop("__file__", None)


def children() -> list[Any]:
    """Return the processes that run, without those of a ``Manager``: any process may connect to such a one."""
    managers = sys.modules.get("multiprocessing.managers")
    # To look at every object takes some milliseconds, and most projects have no manager.
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), managers.BaseManager)] if managers else []
    shared = [getattr(manager, "_process", None) for manager in found]
    return [child for child in set(processes._children) if child not in shared and child.is_alive()]  # type: ignore[attr-defined]


def end_children() -> None:
    """[mold] Those that the project began while loading, a ``Manager`` say: Python ends them at its own end, which is cut."""
    for child in set(processes._children):  # type: ignore[attr-defined]
        if child._popen is not None:
            process.kill(child._popen.pid, signal.SIGTERM)


def _can_wait() -> bool:
    """Whether there is a hub to wait in: a child has none until it does something that needs one."""
    hub = get_hub_if_exists()
    return hub is not None and hub is not getcurrent()


def _is_ready(fd: int, event: int) -> bool:
    poller = _poll()
    poller.register(fd, event)
    return bool(poller.poll(0))


def _await(fd: int, event: int) -> None:
    """Wait without a hub. A duplex ``Pipe`` is a pair of gevent's sockets, which do not block."""
    poller = _poll()
    poller.register(fd, event)
    poller.poll()


def _read(fd: int, size: int) -> bytes:
    """As ``os.read``."""
    if not _can_wait():
        _await(fd, select.POLLIN)
    elif not _is_ready(fd, select.POLLIN):
        wait_read(fd)
    return os.read(fd, size)


def _send(connection: Any, data: Any) -> None:
    """As ``Connection._send``. In pieces that cannot block: the other end has the descriptor too, so it stays blocking."""
    fd, rest = connection._handle, memoryview(data).cast("B")
    while rest:
        if not _can_wait():
            _await(fd, select.POLLOUT)
            rest = rest[os.write(fd, rest) :]
            continue
        if not _is_ready(fd, select.POLLOUT):
            wait_write(fd)
        rest = rest[os.write(fd, rest[:PIPE_BUF]) :]


def _make_green_methods(lock: Any) -> None:
    _make_methods(lock)
    native = lock.acquire

    def acquire(block: bool = True, timeout: float | None = None) -> bool:  # noqa: FBT001, FBT002 - the library's own shape
        if not block or not _can_wait():
            return bool(native(block, timeout))
        return _acquire(native, timeout)

    lock.acquire = acquire


def _acquire(native: Callable[[bool], bool], timeout: float | None) -> bool:
    left = float("inf") if timeout is None else timeout
    nap = _FIRST_NAP
    while not native(False):
        if left <= 0:
            return False
        sleep(min(nap, left))
        left -= nap
        nap = min(nap * 2, _LONGEST_NAP)
    return True

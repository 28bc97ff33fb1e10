"""What must not be forked: running threads, pending greenlets, open database connections; each with the name of its owner."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import threading
import traceback
from functools import wraps
from multiprocessing.process import BaseProcess
from socket import SHUT_RDWR
from types import FrameType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from djworker import process
from djworker.greenlets import upwards
from djworker.mold import blame, cleanup
from djworker.mold.patches import multiprocess
from djworker.worker import grpc_calls, renewal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence


#: Which library began each thread, and where.
_started: WeakKeyDictionary[threading.Thread, str] = WeakKeyDictionary()
#: Which library started each program, and each process of ``multiprocessing``, and where.
_processes: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
#: Which library made each pool of native threads, and where.
_pools: list[tuple[Any, str]] = []
#: Packages whose native threads pause in hooks of ``os.register_at_fork``, and go on in parent and child.
FORK_AWARE: Final = frozenset({"ddtrace"})
#: Modules of C libraries and their classes. librdkafka: "not fork-safe", and a producer's events wait for ever. ZeroMQ: no
#: fork copies the thread that sends for a socket, so what a copy sends goes nowhere; the green one waits in a hub that is gone.
CLIENTS: Final = {
    "confluent_kafka.cimpl": ("Producer", "Consumer", "_AdminClientImpl"),
    "zmq.backend.cython._zmq": ("Socket",),
}
#: Packages that open another connection where the one they kept has ended, without an error for who asks. Each was seen to.
RECONNECTING: Final = frozenset({"opentelemetry", "redis", "urllib3"})
#: References from a socket to an object of its library: the object's dictionary may be between them.
_MOST_OWNERS: Final = 2


class LeftoversWatch:
    """[mold] Looks on while a project loads."""

    def __init__(self, *, alone: bool = False) -> None:
        #: The process is to be one worker, and nothing but that: what the project starts goes on in it.
        self.alone = alone
        #: Threads of libraries were ended here, and begin again only after a fork.
        self.ended = False
        self._opened: dict[str, str] = {}

    @contextlib.contextmanager
    def connections(self) -> Iterator[None]:
        """Note meanwhile who opens database connections, and who begins greenlets."""
        from django.db.backends.base.base import BaseDatabaseWrapper

        from djworker.db.backends.mixin import LeasingMixin

        with (
            self._noting(BaseDatabaseWrapper),
            self._noting(LeasingMixin),
            _noting_threads(),
            _noting_pools(),
            _noting_processes(subprocess.Popen, "__init__"),
            _noting_processes(BaseProcess, "start"),
        ):
            yield

    @contextlib.contextmanager
    def _noting(self, cls: Any) -> Iterator[None]:
        connect = cls.connect

        def noting(connection: Any) -> None:
            if not (place := blame.project_place(traceback.extract_stack())).startswith(blame.OURS):
                self._opened[connection.alias] = place
            connect(connection)

        cls.connect = noting
        try:
            yield
        finally:
            cls.connect = connect

    def unclosed(self, things: Sequence[Any] | None = None) -> list[str]:
        """The database connections among it: each holds a transaction that nothing ever ends.

        things: where to look; else among all objects.
        """
        return list(self._open_connections(candidates() if things is None else things))

    def found(self, known: Collection[Any] = (), things: Sequence[Any] | None = None) -> list[str]:
        """A description of everything that is left now.

        Args:
            known: greenlets that are none of it.
            things: the ``candidates`` of a moment ago; else they are looked for.
        """
        things = candidates() if things is None else things
        return [
            *self._open_connections(things),
            *_greenlets(things, known),
            *_threads(),
            *_clients(),
            *_running(things),
        ]

    def _open_connections(self, things: Iterable[Any]) -> Iterator[str]:
        """Those that could not be closed."""
        from djworker.db.unheld import among

        for connection in among(things):
            place = self._opened.get(connection.alias, blame.UNKNOWN)
            how = "inside atomic(), which was never left" if connection.in_atomic_block else "which does not close"
            yield f"a connection to database {connection.alias!r}, {how}, opened at {place}"


@contextlib.contextmanager
def _noting_threads() -> Iterator[None]:
    """Note who begins a thread: gevent keeps ten frames, and the project's line may be beyond them."""
    start = threading.Thread.start

    @wraps(start)
    def noting(thread: threading.Thread) -> None:
        if noting.__dict__.get("on"):
            _started[thread] = _beginner()
            grpc_calls.begin_with(thread)
        start(thread)

    noting.__dict__["on"] = True
    threading.Thread.start = noting  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        del noting.__dict__["on"]
        if threading.Thread.start is noting:  # else a library (Sentry) has wrapped ours
            threading.Thread.start = start  # type: ignore[method-assign]


@contextlib.contextmanager
def _noting_pools() -> Iterator[None]:
    """Note who makes a pool of native threads: their own stacks have gevent's frames only."""
    from gevent.threadpool import ThreadPool

    make = ThreadPool.__init__

    @wraps(make)
    def noting(pool: Any, *args: Any, **kwargs: Any) -> None:
        make(pool, *args, **kwargs)
        _pools.append((pool, _beginner()))
        renewal.thread_pools.append(pool)

    ThreadPool.__init__ = noting  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        ThreadPool.__init__ = make  # type: ignore[method-assign]
        _pools.clear()


@contextlib.contextmanager
def _noting_processes(cls: Any, name: str) -> Iterator[None]:
    """Note who starts a process by this method."""
    begin = getattr(cls, name)

    @wraps(begin)
    def noting(process: Any, *args: Any, **kwargs: Any) -> None:
        _processes[process] = _beginner()
        begin(process, *args, **kwargs)

    setattr(cls, name, noting)
    try:
        yield
    finally:
        setattr(cls, name, begin)


def _beginner() -> str:
    """Return the library that called the caller, where there is one, and the project's line."""
    stack = traceback.extract_stack()
    library = blame.library_of(stack)
    return f"{f'by {library} ' if library else ''}at {blame.project_place(stack)}"


def hang_up() -> list[tuple[str, str]]:
    """End the connections that are open: a kept one of an HTTP client, say, which no worker can use, and all would share.

    Each worker finds them ended by the other side, as any connection that was idle for too long, and most libraries then open
    another. Without that, an operation on them fails for want of the hub of this process.

    Returns:
        The peer of each, and the library that opens another by itself; empty where none is known to.
    """
    if any(_connected()):
        gc.collect()  # one that nothing refers to any more is closed by it, and nothing to tell of
    found: dict[tuple[str, str], None] = {}
    for thing, peer in _connected():
        found[peer, _library_of(thing)] = None
        with contextlib.suppress(OSError):  # the other side has ended it meanwhile
            thing._sock.shutdown(SHUT_RDWR)
            renewal.keep(thing)
    return sorted(found)


def _connected() -> Iterator[tuple[Any, str]]:
    """Sockets and their peers."""
    from gevent import socket

    for thing in existing(socket.socket):
        # It listens, is not connected yet, or no longer; or it could not be made: an exception may still lead to it.
        with contextlib.suppress(OSError, AttributeError):
            if thing.fileno() >= 0 and thing.type == socket.SOCK_STREAM:
                for peer in _address(thing.getpeername()):
                    yield thing, peer


def connected_channels() -> list[tuple[str, str]]:
    """Return the targets of gRPC's channels that a fork copies with their connection, and the library as ``hang_up`` does.

    gRPC notices the fork where it is about to write, and connects anew; the call that it was about to write may fail.
    """
    return sorted({(target, _library_of(channel)) for channel, target in grpc_calls.connected()})


def _library_of(thing: Any) -> str:
    """The library among those that are known to open another whose object has it."""
    layer: list[Any] = [thing]
    seen = {id(layer)}
    for _distance in range(_MOST_OWNERS):
        seen |= {id(item) for item in layer}
        layer = [item for item in gc.get_referrers(*layer) if id(item) not in seen and not isinstance(item, FrameType)]
        for owner in layer:
            roots = [cls.__module__.partition(".")[0] for cls in type(owner).__mro__]
            if known := next((root for root in roots if root in RECONNECTING), ""):
                return known
    return ""


def _address(peer: Any) -> Iterator[str]:
    """Empty where it has no name: that is the other end of a pair, asyncio's loops have one, and ours too."""
    if isinstance(peer, tuple):
        yield f"{peer[0]}:{peer[1]}"
    elif peer:
        yield f"unix:{peer}"


def existing(*kinds: type) -> list[Any]:
    """All objects of these classes. It looks at every object there is, which takes 10 ms with the shop's 63 000."""
    # type(), not isinstance(): Django's lazy objects answer for their __class__ by doing what they were to put off.
    return [thing for thing in gc.get_objects() if issubclass(type(thing), kinds)]


def candidates() -> list[Any]:
    """Greenlets, Django's connection objects and programs, at one look."""
    from django.db.backends.base.base import BaseDatabaseWrapper
    from gevent import Greenlet

    return existing(Greenlet, BaseDatabaseWrapper, subprocess.Popen)


def greenlets(things: Iterable[Any] | None = None) -> Iterator[Any]:
    """Those that have not ended, threads among them; without gevent's own.

    things: where to look; else among all objects.
    """
    from gevent import Greenlet

    for thing in existing(Greenlet) if things is None else things:
        if issubclass(type(thing), Greenlet) and not thing.ready() and not _is_worker_of_hub(thing):
            yield thing


def _greenlets(things: Iterable[Any], known: Collection[Any]) -> Iterator[str]:
    for thing in greenlets(things):
        if thing in known:
            continue
        thread = thread_of(thing)
        place = (thread and _started.get(thread)) or f"at {blame.project_place(_spawning_stack(thing))}"
        yield f"{_name(thing)}, started {place}"


def _is_worker_of_hub(greenlet: Any) -> bool:
    """A resolver, and what ends a pool's threads."""
    owner = getattr(getattr(greenlet, "_run", None), "__self__", None)
    return any(
        type(thing).__module__.startswith(("gevent.resolver", "gevent.threadpool")) for thing in (greenlet, owner)
    )


def thread_of(greenlet: Any) -> threading.Thread | None:
    """A patched thread is a greenlet that runs ``Thread._bootstrap``."""
    owner = getattr(getattr(greenlet, "_run", None), "__self__", None)
    return owner if isinstance(owner, threading.Thread) else None


def _name(greenlet: Any) -> str:
    if thread := thread_of(greenlet):
        return f"thread {thread.name!r}"
    return f"greenlet {getattr(greenlet._run, '__qualname__', greenlet)!r}"


def _spawning_stack(greenlet: Any) -> list[traceback.FrameSummary] | None:
    found = [
        traceback.FrameSummary(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, lookup_line=False)
        for frame in upwards(getattr(greenlet, "spawning_stack", None))
    ]
    return found[::-1] or None


def _threads() -> Iterator[str]:
    """Native threads that run Python. Those of C libraries (OpenBLAS) guard themselves with pthread_atfork.

    Those of the hub's pool do not count: they end with the hub.
    """
    frames = sys._current_frames()
    known = {_native_ident(), *cleanup.idents_of_hub()}
    pools = {ident: place for pool, place in _pools for ident in cleanup.idents_of(pool)}
    for ident, frame in frames.items():
        if ident not in known and _outermost_module(frame) not in FORK_AWARE:
            place = f"started {pools[ident]}" if ident in pools else f"now at {blame.frame_place(frame)}"
            yield f"native thread {ident}, {place}"


def _clients() -> Iterator[str]:
    """Objects of C libraries whose own threads no fork copies, and which take work for them without a word."""
    for name, kinds in CLIENTS.items():
        module = sys.modules.get(name)
        for kind in filter(None, (getattr(module, kind, None) for kind in kinds)):
            for thing in existing(kind):
                if getattr(thing, "closed", False) is True:
                    continue
                yield f"{kind.__name__} of {name.partition('.')[0]}, {_holder_of(thing)}"


def _running(things: Iterable[Any]) -> Iterator[str]:
    """Processes that answer one parent: a copy is not their parent, and all copies would talk through the same pipes."""
    for program in things:
        with contextlib.suppress(AttributeError):  # one that could not be started
            if issubclass(type(program), subprocess.Popen) and program.poll() is None:
                yield f"process {program.pid} ({process.words_of(program.args)}), started {_place_of(program)}"
    for child in multiprocess.children():
        yield f"process {child.pid} ({child.name}), started {_place_of(child)}"


def _place_of(process: Any) -> str:
    return _processes.get(process) or f"at {blame.UNKNOWN}"


def _holder_of(thing: Any) -> str:
    """Name the variable of the project that has it: C code keeps no stack."""
    for module in list(sys.modules.values()):
        if (file := getattr(module, "__file__", None)) and blame.is_project(file):
            for name, value in list(vars(module).items()):
                if value is thing:
                    return f"which is {name} at {file}"
    return f"made at {blame.UNKNOWN}"


def _outermost_module(frame: FrameType) -> str:
    """The root of the package in which a thread began."""
    while frame.f_back is not None:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _native_ident() -> int:
    ident: int = process.unpatched("_thread", "get_ident")()
    return ident

"""What must not go on in a copy of a process: the hub, everything that waits in it, and whatever the original talks through.

A fork copies the hub with all greenlets that wait, and the sockets of their clients. A copy that waits once for anything runs
the hub, and with it all requests a second time. So a fork that is none of ours leaves a process that has only the
greenlet that forked, as a fork in a program with threads leaves only the thread that forked:

* The copied hub is left as it is and never runs again; its event loop is destroyed, and the child gets a hub of its own. Nothing
  of it is stopped or freed: a greenlet that is freed runs its ``finally`` blocks, and those are the parent's.
* What the original talks through is closed.
* Signals do what they do in any program of Python's.
* The process ends when the greenlet that forked does. It began inside the hub, and must not return there.

The hooks cost a few system calls in the parent, and less than a millisecond in the child.
"""

from __future__ import annotations

import _posixsubprocess
import _signal  # type: ignore[import-not-found]  # signal's own C module: no enumerations for each of sixty signals
import contextlib
import faulthandler
import os
import posix as raw  # the system calls themselves: gevent replaces those of ``os`` with ones that need the loop
import resource
import signal
import sys
import traceback
import warnings
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import gevent.hub
from gevent import get_hub
from gevent._hub_local import get_hub_if_exists, set_hub, set_loop  # the only way to give a thread another hub
from gevent.hub import Hub
from gevent.os import _closing_fd_to_event  # type: ignore[attr-defined]  # not public, and nothing else knows them
from greenlet import getcurrent

# Its own hook comes before this module's: it says farewell to timers in the copied loop.
import djworker.db.pool.pool  # noqa: F401 - registers what it does at a fork first
from djworker import process
from djworker.mold.patches.later_loop import LaterLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Guard", "fork"]

#: Signals that the arbiter sends its own children, or that mean something to them: with a handler of ours, or ignored.
_OURS: Final = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD}
)
_ALL: Final = tuple(sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))
#: sysexits.h: "an internal software error has been detected".
_EX_SOFTWARE: Final = 70
#: What starts programs without the hooks: ``subprocess`` is gevent's, but ``multiprocessing`` uses the last one itself.
_SPAWNS: Final = ((os, "posix_spawn"), (os, "posix_spawnp"), (_posixsubprocess, "fork_exec"))
_ident = process.unpatched("_thread", "get_ident")

_masks: dict[int, Any] = {}
#: Copied hubs and loops. They must outlive everything: see above.
_copies: list[Any] = []
_guards: list[Guard] = []
_is_ours = False


def fork() -> int:
    """[mold] Fork a process of ours, which knows what it has inherited. As ``os.fork``."""
    global _is_ours  # noqa: PLW0603 - what a hook of os.register_at_fork can see
    _is_ours = True
    try:
        with _without_warning():
            return raw.fork()
    finally:
        _is_ours = False


@contextlib.contextmanager
def _without_warning() -> Iterator[None]:
    """Python 3.12 and later warn of a fork beside other threads. Here they are a library's in C, which guards itself.

    gevent does the same for forks of the project's.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def leave_hub() -> None:
    """[a child of the mold] Go on without what waits in the copied hub; the next wait makes another."""
    hub = get_hub_if_exists()
    if hub is not None:
        _leave_hubs({hub})


class Guard:
    """[mold, worker] Makes every other fork of this process harmless."""

    def __init__(self, *releases: Callable[[], object], descriptor_limit: int) -> None:
        """Make a guard that does nothing yet.

        Args:
            releases: called in the child, to close what it must not have, or to undo what is for this process only. They must
                neither wait nor stop what waits.
            descriptor_limit: the soft limit of open descriptors that the server was started with.
        """
        self._releases = list(releases)
        self._descriptor_limit = descriptor_limit
        self._hub: Hub | None = None
        # Of the children's children nothing must be closed; what they copy is a hub.
        self._is_first = True

    def also(self, release: Callable[[], object]) -> None:
        """Add a release."""
        self._releases.append(release)

    def install(self) -> None:
        """Guard from now on, in the place of the guard before. Call it late: hooks run in the order of their registration."""
        _guards[:] = [self]
        self._hub = get_hub_if_exists()
        self._thread = _ident()
        for module, name in _SPAWNS:
            setattr(module, name, self._spawning(getattr(module, name)))
        os.register_at_fork(before=self._before, after_in_parent=self._in_parent, after_in_child=self._in_child)

    def _spawning(self, spawn: Callable[..., int]) -> Callable[..., int]:
        """As *spawn*, which starts a program without a fork that Python knows of, for the limit of descriptors."""
        spawn = getattr(spawn, "__wrapped__", spawn)

        @wraps(spawn)
        def start(*args: Any, **kwargs: Any) -> int:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (self._descriptor_limit, hard))
            try:
                return spawn(*args, **kwargs)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

        return start

    @property
    def _acts(self) -> bool:
        return not _is_ours and self in _guards

    def _before(self) -> None:
        """No signal may reach the child while it still has our handlers: a termination would be lost."""
        if not self._acts:
            return
        if _ident() == self._thread:
            self._hub = get_hub()
            # gevent would do it after the first fork, and would not hear of a child that ends before.
            self._hub.loop.install_sigchld()
        _masks[_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL)

    def _in_parent(self) -> None:
        if self._acts:
            signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop(_ident()))

    def _in_child(self) -> None:
        if not self._acts:
            return
        try:
            if self._is_first:
                for release in self._releases:
                    release()
                _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.setrlimit(resource.RLIMIT_NOFILE, (self._descriptor_limit, hard))
            _reset_signals(_OURS if self._is_first else frozenset())
            _leave_hubs({hub for hub in (self._hub, get_hub_if_exists()) if hub is not None})
            signal.pthread_sigmask(signal.SIG_SETMASK, _masks[_ident()])
        except BaseException:  # noqa: BLE001 - Python would print it and go on, with everything that this was to end
            traceback.print_exc()
            raw._exit(_EX_SOFTWARE)
        _masks.clear()
        self._is_first = False
        self._hub = None
        # Python's view too, see ``threading.main_thread``; only this one's hub can look after children.
        self._thread = gevent.hub.MAIN_THREAD_IDENT = _ident()  # type: ignore[attr-defined]


def _reset_signals(ours: frozenset[int]) -> None:
    """Python's own handling of ours, and the system's of what Python knows no handler for: there libev had one."""
    if ours:
        faulthandler.unregister(signal.SIGQUIT)
    for number in _ALL:
        handler = _signal.SIG_DFL if number in ours else _signal.getsignal(number)
        if not callable(handler) and handler is not None:
            _signal.signal(number, handler)
    if ours:
        _signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.set_wakeup_fd(-1)


def _leave_hubs(copies: set[Hub]) -> None:
    """Have the next wait make a hub, and give the greenlet that forked an end that does not lead into a copy."""
    current = getcurrent()
    if current in copies:
        sys.stderr.write(
            "djworker: a fork in a callback of gevent's hub cannot go on: it would run everything that waits\n"
        )
        raw._exit(_EX_SOFTWARE)
    for copy in copies:
        _copies.extend((copy, copy.loop))
        copy.loop.break_(0)  # libev notes in the loop that it waits, which it does in another thread
        copy.loop.destroy()
        copy.loop = LaterLoop()  # type: ignore[assignment]
    set_hub(None)  # type: ignore[arg-type]  # as gevent does itself
    set_loop(None)  # type: ignore[arg-type]
    _close_what_waits()
    if current.parent is not None:
        _End(current)


def _close_what_waits() -> None:
    """Gevent closes descriptors when its loop turns next; the one that was to do so never turns."""
    for fd in _closing_fd_to_event:
        with contextlib.suppress(OSError):
            raw.close(fd)
    _closing_fd_to_event.clear()


class _End(Hub):
    """[a worker's child] What the greenlet that forked returns to in the hub's place. A hub, as gevent wants it of a parent."""

    def __init__(self, forker: Any) -> None:
        super().__init__(LaterLoop())  # type: ignore[call-overload]
        self._forker = forker
        self.parent = forker.parent
        forker.parent = self
        self.switch()

    def run(self) -> None:
        """Let it go on; what comes back is its end."""
        try:
            self._forker.switch()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the child
            process.end_child_with(error)
        finally:
            process.end_child()

    def handle_system_error(self, type: Any, value: Any, tb: Any = None) -> None:  # noqa: A002, ARG002 - the library's own shape
        """Its ``sys.exit()`` is the process's."""
        process.end_child_with(value)

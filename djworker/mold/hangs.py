"""[mold] Saying where loading hangs: when the arbiter asks (SIGUSR2) because it takes too long, or for ``--check`` at an alarm.

A handler of Python's finds the code that waits, wherever gevent's hub has put it aside; it tells the arbiter as any other
failure of this boot, and ends the mold. Where C code does not let it run, faulthandler has written the stacks into a file in
memory that the arbiter has made.
"""

from __future__ import annotations

import faulthandler
import posix as raw  # as in the mold: the system calls themselves
import signal
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from greenlet import getcurrent

from djworker.mold import blame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    #: Told of the module, the place and the stack.
    Report = Callable[[str, str, str], object]


_STANDARD_ERROR: Final = 2
#: Seconds for the handler to begin.
_MARGIN: Final = 3.0


def watch(report: Report, stacks: int) -> None:
    """Answer from now on. stacks: the file for faulthandler, or a negative number."""
    signal.signal(signal.SIGUSR2, _confession(report))
    faulthandler.register(signal.SIGUSR2, file=stacks if stacks >= 0 else _STANDARD_ERROR, all_threads=True, chain=True)


@contextmanager
def limit(report: Report, seconds: float) -> Iterator[None]:
    """Without an arbiter that asks: answer by itself after so many seconds. A project that sets an alarm goes without.

    Where C code lets no handler run, faulthandler writes the stacks and ends the process; its exit code is 1.
    """

    def confess(module: str, place: str, stack: str) -> None:
        faulthandler.cancel_dump_traceback_later()
        report(module, place, stack)

    before = signal.signal(signal.SIGALRM, _confession(confess))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + _MARGIN, exit=True, file=_STANDARD_ERROR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _confession(report: Report) -> Callable[[int, FrameType | None], None]:
    """Return a signal handler that tells where this greenlet is."""
    loading = getcurrent()

    def confess(_number: int, frame: FrameType | None) -> None:
        aside: Any = loading.gr_frame if getcurrent() is not loading else None
        stack = traceback.extract_stack(aside or frame)
        file = next((item.filename for item in reversed(stack) if blame.is_project(item.filename)), "")
        report(blame.module_at(file) if file else "", blame.project_place(stack), "".join(stack.format()))

    return confess


def end_watch(stacks: int) -> None:
    """It is loaded; the file is not for workers."""
    faulthandler.unregister(signal.SIGUSR2)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if stacks >= 0:
        raw.close(stacks)

"""[mold] A question that a child of the mold answers, so that nothing of the answering is left to be forked into workers.

Asking a database server starts the hub, threads for its name, a connection; a server that never answers holds all of them.
The kernel ends the child with all that it holds.
"""

from __future__ import annotations

import os
import posix as raw  # as in the mold: the system calls themselves
import signal
import traceback
from typing import TYPE_CHECKING, NoReturn

from djworker import posix
from djworker.worker import forks

if TYPE_CHECKING:
    from collections.abc import Callable


def ask(question: Callable[[], str], patience: float) -> str:
    """Call it in a child, and return what it returned; empty if it raised, died, or took longer than so many seconds."""
    read, write = raw.pipe()
    mold = os.getpid()
    pid = forks.fork()
    if pid == 0:
        _answer(question, patience, mold, write)
    raw.close(write)
    answer = _read_to_end(read)
    raw.close(read)
    _, status = raw.waitpid(pid, 0)
    return "" if status else answer


def _answer(question: Callable[[], str], patience: float, mold: int, write: int) -> NoReturn:
    """[the child] The alarm's default is the end of the process, whatever it does just then."""
    status = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        signal.setitimer(signal.ITIMER_REAL, patience)
        posix.die_with(mold)
        forks.leave_hub()  # threads that the project has begun wait in it, and would go on here too
        data = question().encode()
        while data:
            data = data[raw.write(write, data) :]
        status = 0
    except BaseException:  # noqa: BLE001 - shown, and the end
        traceback.print_exc()
    finally:
        raw._exit(status)  # noqa: SLF001 - no exit handlers of the mold's


def _read_to_end(read: int) -> str:
    parts = []
    while part := raw.read(read, 65536):
        parts.append(part)
    return b"".join(parts).decode()

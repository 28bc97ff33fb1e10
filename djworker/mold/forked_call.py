"""[mold] A question that a child of the mold answers, so that nothing of the answering is left to be forked into workers.

Asking a database server starts the hub, threads for its name, a connection; a server that never answers holds all of them.
The kernel ends the child with all that it holds.
"""

from __future__ import annotations

import os
import posix as raw  # as in the mold: the system calls themselves
import signal
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn

from djworker import process
from djworker.ipc.contract import READ_SIZE
from djworker.mold.patches import forks
from djworker.worker import grpc_calls, renewal

if TYPE_CHECKING:
    from collections.abc import Callable

    #: What a child says it with.
    Write = Callable[[bytes], object]

#: Seconds that a child has after its alarm, before it is killed: what it forked itself may hold its pipe open for ever.
_MARGIN: Final = 1.0


@dataclass(slots=True)
class Asked:
    """[mold] A child that was asked, and what it has said so far."""

    pid: int
    #: Readable when it has said more, or has ended.
    fd: int
    #: On the monotonic clock: the end of its time.
    deadline: float
    parts: list[bytes] = field(default_factory=list)

    def read(self) -> bool:
        """Wait for more, and take it in; False at the end."""
        part = raw.read(self.fd, READ_SIZE)
        self.parts.append(part)
        return bool(part)

    def finish(self) -> int:
        """Bury it; its status as ``waitpid`` has it."""
        if time.monotonic() >= self.deadline:
            process.kill(self.pid, signal.SIGKILL)
        raw.close(self.fd)
        _, status = raw.waitpid(self.pid, 0)
        return status

    @property
    def said(self) -> bytes:
        """All that it said."""
        return b"".join(self.parts)


def ask(question: Callable[[], str], timeout: float) -> str:
    """Call it in a child, and return what it returned; empty if it raised, died, or took too long.

    Args:
        question: what is called.
        timeout: seconds.
    """
    asked = begin_asking(question, timeout)
    while asked.read():
        pass
    return "" if asked.finish() else asked.said.decode()


def begin_asking(question: Callable[[], str], timeout: float) -> Asked:
    """As ``begin``, for a question with one answer."""
    return begin(lambda write: write(question().encode()), timeout)


def begin(question: Callable[[Write], object], timeout: float) -> Asked:
    """Call it in a child, and go on; the kernel ends the child when its time is over.

    Args:
        question: what is called, with a function that says bytes to us.
        timeout: seconds.

    Raises:
        OSError: there is no process, or no descriptor, for it.
    """
    read, write = raw.pipe()
    mold = os.getpid()
    try:
        pid = forks.fork()
    except OSError:
        raw.close(read)
        raw.close(write)
        raise
    if pid == 0:
        raw.close(read)
        _answer(question, timeout, mold, write)
    raw.close(write)
    return Asked(pid, read, time.monotonic() + timeout + _MARGIN)


def _answer(question: Callable[[Write], object], timeout: float, mold: int, write: int) -> NoReturn:
    """[the child] The alarm's default is the end of the process, whatever it does just then."""

    def say(data: bytes) -> None:
        while data:
            data = data[raw.write(write, data) :]

    status = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        signal.setitimer(signal.ITIMER_REAL, timeout)
        process.die_with(mold)
        forks.leave_hub()  # threads that the project has begun wait in it, and would go on here too
        renewal.adopt_thread_pools()
        grpc_calls.init()
        question(say)
        status = 0
    except BaseException:  # noqa: BLE001 - shown, and the end
        traceback.print_exc()
    finally:
        raw._exit(status)  # noqa: SLF001 - no exit handlers of the mold's

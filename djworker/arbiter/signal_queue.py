"""Signals as a queue: the handler notes the number, the wake-up descriptor ends the loop's sleep.

Nothing happens in a handler but an append, so a signal can come at any moment, a roll-out included, and none is lost to a
handler that runs inside another (CPython's forkserver and unicorn do likewise).
"""

from __future__ import annotations

import os
import signal
import socket
from collections import deque
from typing import TYPE_CHECKING, Final

from djworker import process

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

HANDLED: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCHLD,
)


class Signals:
    """[arbiter] What came since the loop last looked."""

    def __init__(self) -> None:
        self._came: deque[int] = deque()
        self._wake, self._wakeup = socket.socketpair()
        for end in (self._wake, self._wakeup):
            end.setblocking(False)

    def install(self) -> None:
        """Handle them from now on; those that were blocked across an exec arrive at once."""
        process.leave_signal_stack()  # there is no room there for all of them, and they may well come together
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        for number in HANDLED:
            signal.signal(number, self._note)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)

    def block(self) -> None:
        """Take no more: an interpreter that ends gives signals their default meaning back, and most of these would kill it."""
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)

    def close(self) -> None:
        """Let go of the descriptors, when no handler of ours can run any more."""
        signal.set_wakeup_fd(-1)
        for end in (self._wake, self._wakeup):
            end.close()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._came.append(number)

    def fileno(self) -> int:
        """Readable when a signal came."""
        return self._wake.fileno()

    def noted(self) -> list[int]:
        """What came and was not taken yet."""
        return list(self._came)

    def note(self, numbers: Iterable[int]) -> None:
        """Have these come, as if they had just been sent."""
        self._came.extend(numbers)
        self._wakeup.send(b"\0")

    def clear(self) -> None:
        """Empty the wake-up descriptor."""
        try:
            while os.read(self._wake.fileno(), 4096):
                pass
        except BlockingIOError:
            return

    def take(self) -> list[int]:
        """The signals in order, repetitions in a row folded, but for those that count (TTIN, TTOU)."""
        taken: list[int] = []
        while self._came:
            number = self._came.popleft()
            if number in (signal.SIGTTIN, signal.SIGTTOU) or number not in taken:
                taken.append(number)
        return taken

"""Where log lines go: a descriptor or a file, written so that a log in trouble never troubles a request.

A full disk, a reader that is gone, a pipe that is not emptied: the line is lost, it is counted, and the loss is told at
most once a minute. Nothing here takes a lock: a worker's watchdog logs from another thread while the first may be stuck
anywhere, so each line is one ``write`` instead, which the kernel keeps whole on a pipe (up to PIPE_BUF) and on a file
opened for appending.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import time
from collections.abc import Callable
from typing import Final

from djworker import process

NOTICE_INTERVAL: Final = 60.0  # seconds
#: A reader may stop for a moment (journald restarts); a server must not wait for it for long, nor at every line.
TIMEOUT: Final = 0.1  # seconds
PIECE: Final = 4096  # bytes; PIPE_BUF on Linux: poll promises room for that much, so writing it cannot block

Notify = Callable[[int, OSError], None]


class Sink:
    """[arbiter, mold, worker] A destination of lines. Never raises, and hardly ever waits, once it is made."""

    def __init__(
        self,
        fd: int,
        notify: Notify | None = None,
        *,
        last_resort: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write to a descriptor, which stays its owner's.

        notify(lost, error): told of lost lines, at most once a minute. last_resort: the notice itself comes to this
        sink, so it waits until lines can be written again.
        """
        self._fd = fd
        self._notify = notify
        self._last_resort = last_resort
        self._clock = clock
        self._lost = 0
        self._error = OSError()
        self._next_notice = 0.0
        self._stalled_until = 0.0
        self._torn = False
        self._may_block = not _is_regular(fd)

    def write(self, line: str) -> None:
        """Write a line; its newline is added."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        try:
            self._write_all(b"\n" + data if self._torn else data)
        except OSError as error:
            self._lose(error)
            return
        self._torn = False
        if self._lost:
            self._tell()

    def _write_all(self, data: bytes) -> None:
        sent = 0
        while sent < len(data):
            try:
                if self._may_block:
                    self._await_room()
                sent += os.write(self._fd, data[sent : sent + PIECE])
            except OSError:
                self._torn = self._torn or sent > 0
                raise

    def _await_room(self) -> None:
        """Raise where a write would block for long."""
        now = self._clock()
        poller = process.unpatched("select", "poll")()
        poller.register(self._fd, select.POLLOUT)
        if not poller.poll(0 if now < self._stalled_until else TIMEOUT * 1000):
            self._stalled_until = now + 1
            raise BlockingIOError(errno.EAGAIN, "this log is not read")

    def _lose(self, error: OSError) -> None:
        self._lost += 1
        self._error = error
        if not self._last_resort:
            self._tell()

    def _tell(self) -> None:
        now = self._clock()
        if self._notify is None or now < self._next_notice:
            return
        lost, self._lost, self._next_notice = self._lost, 0, now + NOTICE_INTERVAL
        self._notify(lost, self._error)

    def reopen(self) -> None:
        """Open the file anew, where it is one."""

    def close(self) -> None:
        """Give back what this sink opened."""


class FileSink(Sink):
    """A file, opened for appending; a rotated file is left at ``reopen``."""

    def __init__(self, path: str, notify: Notify | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Open the file. Raises OSError where that fails."""
        self.path = os.path.abspath(path)
        super().__init__(_open(self.path), notify, clock=clock)

    def reopen(self) -> None:
        """Open the path anew; where that fails, the old file stays in use."""
        try:
            fresh = _open(self.path)
        except OSError as error:
            self._lose(error)
            return
        # dup2 keeps the number: a process that writes at this moment writes to the old file or to the new one.
        os.dup2(fresh, self._fd, inheritable=False)
        self._may_block = not _is_regular(fresh)
        raw_close(fresh)

    def close(self) -> None:
        """Close the file. Writing afterwards loses lines quietly."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                raw_close(fd)


def _is_regular(fd: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        return False


def _open(path: str) -> int:
    # O_NONBLOCK: a named pipe without a reader must not hang the start; on a regular file it means nothing.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    return os.open(path, flags | (os.O_NOFOLLOW if _in_strangers_folder(path) else 0), 0o666)


def _in_strangers_folder(path: str) -> bool:
    """Whether we are root, and another user decides what that name leads to (Debian's nginx: CVE-2016-1247)."""
    try:
        return os.geteuid() == 0 and os.stat(os.path.dirname(os.path.abspath(path))).st_uid != 0
    except OSError:
        return False


def is_strangers_link(path: str) -> bool:
    """Whether *path* is a link that root does not follow to write a log: its folder is another user's."""
    return os.path.islink(path) and _in_strangers_folder(path)


def raw_close(fd: int) -> None:
    """Close a descriptor now, not when the hub next turns."""
    process.unpatched("os", "close")(fd)

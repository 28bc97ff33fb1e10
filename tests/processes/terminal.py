"""A terminal: a real pseudo-terminal, and a screen on which it is seen what a program draws."""

from __future__ import annotations

import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path
from typing import Any, Self

import pyte

from tests.processes.events import PATIENCE, eventually
from tests.processes.server import environment

#: Without a terminal that controls it, a process gets no signal for Ctrl-C.
CONTROLLING = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    # A test run in the background of a shell ignores them, and so would its children.
    "signal.signal(signal.SIGINT, signal.SIG_DFL); signal.signal(signal.SIGQUIT, signal.SIG_DFL);"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """A program on a terminal of its own, which it controls."""

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        size: tuple[int, int] = (80, 24),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Start *words* in *folder*. size: columns and lines."""
        self._ours, theirs = pty.openpty()
        self._size(theirs, size)
        self.before = termios.tcgetattr(theirs)
        self.screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self.screen)
        self._lock = threading.Lock()
        self.raw = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", CONTROLLING, *words],
            cwd=folder,
            env=environment({"TERM": "xterm-256color", "PWD": str(folder), **(environ or {})}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        self._theirs = theirs  # kept open, so that its modes can be looked at after the end
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @staticmethod
    def _size(fd: int, size: tuple[int, int]) -> None:
        ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._theirs)
        self._reader.join(PATIENCE)
        os.close(self._ours)

    def _read(self) -> None:
        with suppress(OSError):  # EIO: both ends of the other side are closed
            while data := os.read(self._ours, 65_536):
                with self._lock:
                    self.raw += data
                    self._stream.feed(data)

    # -- looking ------------------------------------------------------------------------------------------------------

    def lines(self) -> list[str]:
        """What is on the screen."""
        with self._lock:
            return [line.rstrip() for line in self.screen.display]

    def text(self) -> str:
        """The same in one piece."""
        return "\n".join(self.lines())

    def shows(self, text: str) -> list[str]:
        """Wait until it shows this; its lines then."""
        return self.until(lambda lines: text in "\n".join(lines), f"{text!r} is shown")

    def until(self, fits: Callable[[list[str]], Any], what: str) -> list[str]:
        """Wait until its lines are as wanted; return them."""
        try:
            shown: list[str] = eventually(lambda: fits(found := self.lines()) and found, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; the screen is\n{self.text()}\nand the end {self.raw[-300:]!r}") from None
        return shown

    # -- doing --------------------------------------------------------------------------------------------------------

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Make the window larger or smaller."""
        with self._lock:
            self.screen.resize(rows, columns)
        self._size(self._ours, (columns, rows))
        os.killpg(self.process.pid, signal.SIGWINCH)

    def wait(self) -> int:
        """Wait for the end; the exit code. The terminal is as it was before."""
        code = self.process.wait(PATIENCE)
        self.is_restored()
        return code

    def is_restored(self) -> None:
        """It echoes, hands out lines, shows its cursor, and its first screen."""
        assert termios.tcgetattr(self._theirs) == self.before
        self.is_back()

    def is_back(self) -> None:
        """Its cursor is shown, and its first screen, of which pyte has no other."""
        eventually(lambda: self.raw.rfind(b"\x1b[?1049l") >= self.raw.rfind(b"\x1b[?1049h"), "the first screen is back")
        assert self.raw.rfind(b"\x1b[?25h") >= self.raw.rfind(b"\x1b[?25l"), "the cursor is shown"

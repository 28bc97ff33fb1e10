"""``top`` on the whole screen, drawn by rich. Keys are read here; the terminal is left as it was found, whatever ends it."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live
from rich.text import Text

from djworker.control.top.figures import View, headlines, tables
from djworker.control.top.layout import Choice, Line, lines

if TYPE_CHECKING:
    from types import FrameType

    from djworker.control.top.feed import Feed

__all__ = ["run"]

#: Seconds after which ages and times are shown anew, though nothing has come.
REDRAW: Final = 1.0
_STYLES: Final = {
    "": "",
    "dim": "bright_black",
    "good": "green",
    "warn": "yellow",
    "bad": "bold red",
    "strong": "bold",
    "title": "reverse",
    "sorted": "bold black on green",
    "chosen": "bold black on green",
}
#: What terminals send; the second form is that of the application mode of the cursor keys.
_KEYS: Final = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[C": "right",
    "\x1bOC": "right",
    "\x1b[D": "left",
    "\x1bOD": "left",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1b[1~": "home",
}
#: Where the terminal does not say how large it is.
_SIZE: Final = (80, 24)
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGTSTP)


#: One key: a sequence that begins with escape, or a character.
_KEY: Final = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)


class _Ended(BaseException):
    """A signal asks for the end, for the second time: the first one has not come to an end."""


class Screen:
    """[client] The loop: waits for keys, news and time, and draws.

    Args:
        feed: asks the server.
        news: the two ends of a pipe into which something is written when there is something new.
        count: looks, then end; 0 for no end.
    """

    def __init__(self, feed: Feed, news: tuple[int, int], count: int) -> None:
        self._feed = feed
        self._news, self._tell = news
        self._count = count
        self._console = Console(highlight=False)
        self._choice = Choice()
        self._view = View()
        self._paused = False
        self._input = sys.stdin.fileno()
        self._found = termios.tcgetattr(self._input)
        self._live = self._new_live()

    def _new_live(self) -> Live:
        return Live(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )

    def run(self) -> None:
        """Show until a key, a signal, or the number of looks ends it."""
        with self._signals():
            try:
                self._take()
                while not self._choice.ended and not (self._count and self._feed.view().looks >= self._count):
                    self._draw()
                    self._wait()
            finally:
                self._give_back()

    # -- the terminal -------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        tty.setcbreak(self._input)
        self._live.start()

    def _give_back(self) -> None:
        self._live.stop()
        termios.tcsetattr(self._input, termios.TCSADRAIN, self._found)

    def _draw(self) -> None:
        if not self._choice.held:
            self._view = self._feed.view()
        width, height = _size()
        found = lines(headlines(self._view), tables(self._view), self._choice, width, height)
        self._console.size = ConsoleDimensions(width, height)
        self._live.update(Group(*map(_text, found)), refresh=True)

    # -- waiting ------------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        ready, _, _ = select.select([self._input, self._news], [], [], REDRAW)
        if self._news in ready:
            os.read(self._news, 4096)
        if self._paused:
            self._paused = False
            self._pause()
        if self._input in ready:
            columns = {name: len(table.columns) for name, table in tables(self._view).items()}
            typed = os.read(self._input, 1024).decode(errors="replace")
            for key in _KEY.findall(typed) if typed else ["end of input"]:
                self._choice.press(_KEYS.get(key, key), columns)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._signalled) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        """Note it, and wake the loop: what we were writing is to be written to its end first."""
        if number == signal.SIGTSTP:
            self._paused = True
        elif number != signal.SIGWINCH:
            if self._choice.ended:
                raise _Ended
            self._choice.ended = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._tell, b".")

    def _pause(self) -> None:
        """Ctrl-Z: give the terminal back, stop, and take it again when we go on."""
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._signalled)
        self._live = self._new_live()
        self._take()


def _size() -> tuple[int, int]:
    try:
        width, height = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return _SIZE
    return (width, height) if width and height else _SIZE


def _text(line: Line) -> Text:
    text = Text(no_wrap=True, overflow="crop")
    for piece, look in line:
        text.append(piece, _STYLES[look])
    return text


def run(feed: Feed, news: tuple[int, int], count: int) -> None:
    """Show what *feed* learns until the reader, a signal, or *count* ends it; see ``Screen``."""
    with contextlib.suppress(_Ended):
        Screen(feed, news, count).run()

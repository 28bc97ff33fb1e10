"""[arbiter to be] Processes that the settings have begun in the command that starts the server end with that command.

Whatever loads the settings begins them: each worker too, for itself. What the command has begun would be one more, of code that
no reload replaces, below the arbiter, which knows nothing of it, until after the stop.
"""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from djworker import process

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A ``manage.py`` that has one of these words may begin processes by itself, which no worker begins again.
_BEGINNERS: Final = (b"subprocess", b"multiprocessing", b"Popen")


def end() -> list[str]:
    """Ask them to end (SIGTERM), and say what they are.

    Those of ``os.fork`` and of a shell that has become this program (``tool & exec manage.py runworkers``) are left alone.
    """
    if _begins_some_itself():
        return []
    found = dict([*_programs(), *_processes()])
    for pid in found:
        process.kill(pid, signal.SIGTERM)
    return [f"{pid} ({what})" for pid, what in sorted(found.items())]


def _begins_some_itself() -> bool:
    """Whether the program that runs, and not the settings, may have begun them."""
    path = getattr(sys.modules["__main__"], "__file__", None) or ""
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError:
        return True
    return any(word in text for word in _BEGINNERS)


def _programs() -> Iterator[tuple[int, str]]:
    """Those of ``subprocess``. One whose object is gone is in a list of the module's."""
    kept = [thing for thing in gc.get_objects() if issubclass(type(thing), subprocess.Popen)]
    for program in {*kept, *subprocess._active}:  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public way to ask
        if getattr(program, "pid", None) and program.poll() is None:
            yield program.pid, process.words_of(program.args)


def _processes() -> Iterator[tuple[int, str]]:
    """Those of ``multiprocessing``."""
    module = sys.modules.get("multiprocessing.process")
    for child in set(module._children) if module is not None else ():  # noqa: SLF001 - active_children() waits for those that are dead
        if child.is_alive():
            yield child.pid, child.name

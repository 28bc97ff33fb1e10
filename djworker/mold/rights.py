"""[mold] What the user of the workers may not read: Python itself speaks of a module that does not exist.

A folder that may not be entered is, to Python's import system, one in which nothing is.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterator
from pathlib import Path


def complaint(error: BaseException) -> str:
    """Say what this user may not read, where that explains the error; empty where it does not."""
    if os.geteuid() == 0:
        return ""
    place = next((path for path in _suspects(error) if not _may_read(path)), None)
    if place is None:
        return ""
    remedy = "open it (chmod o+rX), or move it to a folder that this user may enter"
    return f"user {_name()} may not read {_outermost(place)}: {remedy}"


def _suspects(error: BaseException) -> Iterator[Path]:
    """Places whose closed doors would have this effect."""
    if isinstance(error, PermissionError) and isinstance(error.filename, str):
        yield Path(error.filename).absolute()
    if isinstance(error, ImportError):
        parents = (error.name or "").split(".")[:-1]
        for entry in filter(None, sys.path):
            yield from (Path(entry, *parents[:depth]) for depth in range(len(parents) + 1))


def _may_read(path: Path) -> bool:
    """Whether it can be read, or is really not there."""
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return _may(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK)


def _may(path: Path, how: int) -> bool:
    return os.access(path, how, effective_ids=os.access in os.supports_effective_ids)


def _outermost(path: Path) -> Path:
    """The first door on the way that is closed."""
    closed = (folder for folder in reversed(path.parents) if not _may(folder, os.X_OK))
    return next(closed, path)


def _name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a number without an account
        return str(os.geteuid())

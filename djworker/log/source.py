"""Whose a source file is: the project's, a library's, or ours. For lines of the log that name a place in the code."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import traceback
    from collections.abc import Iterable

__all__ = ["LIBRARIES", "OURS", "UNKNOWN", "is_library", "is_project", "project_place"]

LIBRARIES: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}", "<frozen")
UNKNOWN: Final = "an unknown place"
#: The folder of this package.
OURS: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_STANDARD: Final = os.path.dirname(os.path.abspath(os.__file__))
#: How compiled modules name their source, which is not on this machine.
_COMPILED: Final = (os.path.join("src", "gevent", ""), os.path.join("src", "greenlet", ""))


def is_project(filename: str) -> bool:
    """Whether a file is the project's, and neither a library's nor ours."""
    if filename.startswith(_COMPILED):
        return False
    path = os.path.abspath(filename)
    return not any(part in path for part in LIBRARIES) and not path.startswith((_STANDARD + os.sep, OURS + os.sep))


def is_library(filename: str) -> bool:
    """Whether it may tell a reader something: a package that is neither Django nor what we are made of."""
    path = os.path.abspath(filename)
    parts = (f"{os.sep}{name}{os.sep}" for name in ("gevent", "greenlet", "django"))
    return (
        any(mark in path for mark in LIBRARIES[:2])
        and not path.startswith(OURS)
        and not any(part in path for part in parts)
    )


def project_place(stack: Iterable[traceback.FrameSummary] | None) -> str:
    """``file:line in function`` of the innermost frame of the project; where it has none there, of the library that it uses.

    Never of gevent, ours, or Python's own library: those are in every stack.
    """
    inwards = list(reversed(list(stack or ())))
    own = (item for item in inwards if is_project(item.filename))
    frame = next(own, None) or next((item for item in inwards if is_library(item.filename)), None)
    return f"{frame.filename}:{frame.lineno} in {frame.name}" if frame is not None else UNKNOWN

"""Finds the project's own module behind an exception, for a log line that names it."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING, Final

from djworker.log.source import LIBRARIES, OURS, UNKNOWN, is_library, is_project, project_place

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

__all__ = [
    "OURS",
    "UNKNOWN",
    "first_module",
    "frame_place",
    "is_project",
    "library_of",
    "module_at",
    "module_of",
    "project_place",
    "root_of",
    "sentence",
]

#: The module ``os`` as tracebacks name it.
_OS: Final = (os.__file__, "<frozen os>")


def module_of(error: BaseException) -> str:
    """The module in which *error* arose: the deepest of the project's on the stack, along the chain of causes."""
    root = root_of(error)
    if isinstance(root, SyntaxError) and root.filename:
        return _module_name(root.filename)
    frames = [summary.filename for summary in traceback.extract_tb(root.__traceback__)]
    own = [filename for filename in frames if is_project(filename)]
    if own:
        return _module_name(own[-1])
    if isinstance(root, ImportError) and root.name:
        return root.name
    libraries = [filename for filename in frames if is_library(filename)]
    return _module_name((libraries or frames)[-1]) if frames else type(root).__module__


def sentence(error: BaseException) -> str:
    """What was raised, and at its root what for, in one line."""
    root = root_of(error)
    outer, inner = _line(error), _line(root)
    if str(root) == str(error):  # Django's exceptions for databases repeat the library's, whose class tells more
        return inner
    return outer if str(root) in str(error) else f"{outer} ({inner})"


def _line(error: BaseException) -> str:
    lines = traceback.format_exception_only(error)
    if isinstance(error, KeyError) and _is_of_the_environment(error):
        return f"{lines[0].strip()}, which the environment does not have"
    if type(error).__name__ == "LoopExit":  # gevent's own text has the addresses of its objects
        place = project_place(traceback.extract_tb(error.__traceback__))
        return f"it waits for ever at {place}: while the project loads, nothing else runs that could end the wait (LoopExit)"
    if isinstance(error, SyntaxError):
        return lines[-1].strip()
    return " ".join(lines[0].split())  # a database driver's has several lines, the first of which says what failed


def _is_of_the_environment(error: KeyError) -> bool:
    """Whether it is ``os.environ`` that lacks something."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename in _OS and frames[-1].name == "__getitem__"


def library_of(stack: Sequence[traceback.FrameSummary] | None) -> str:
    """The package of the innermost library in a stack that tells a reader something; empty without one."""
    for item in reversed(stack or ()):
        if is_library(item.filename):
            inside = os.path.abspath(item.filename).rpartition(LIBRARIES[0])[2].rpartition(LIBRARIES[1])[2]
            return inside.partition(os.sep)[0].removesuffix(".py")
    return ""


def frame_place(frame: FrameType | None) -> str:
    """The same, of a live frame."""
    return project_place(traceback.extract_stack(frame)) if frame is not None else UNKNOWN


def first_module(found: Sequence[str]) -> str:
    """The module that the first of these descriptions names."""
    place = found[0].rpartition(" at ")[2]
    return _module_name(place.partition(":")[0]) if os.sep in place else "unknown"


def module_at(filename: str) -> str:
    """The name of the module in a file."""
    return _module_name(filename)


def root_of(error: BaseException) -> BaseException:
    """The exception that the others in its chain were raised for."""
    seen = {id(error)}
    while True:
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None or id(cause) in seen or (cause is not error.__cause__ and _is_a_miss(cause)):
            return error
        seen.add(id(cause))
        error = cause


def _is_a_miss(error: BaseException) -> bool:
    """Whether a library only looked something up, did not have it yet, and failed in making it: that says nothing."""
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, LookupError | AttributeError) and bool(frames) and not is_project(frames[-1].filename)


def _module_name(filename: str) -> str:
    for name, module in list(sys.modules.items()):
        if name != "__main__" and getattr(module, "__file__", None) == filename:
            return name
    for entry in sys.path:
        prefix = os.path.abspath(entry) + os.sep
        if os.path.abspath(filename).startswith(prefix) and filename.endswith(".py"):
            dotted = os.path.abspath(filename)[len(prefix) : -3].replace(os.sep, ".")
            return dotted.removesuffix(".__init__")
    return filename

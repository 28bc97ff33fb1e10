"""[arbiter to be] The environment that the server was started with, for all generations to come.

What settings put into ``os.environ`` (from a ``.env`` file, say) would cross the ``execve`` and count as given: ``load_dotenv``,
django-environ and ``setdefault`` keep what is there, so a reload would never see a changed file.
"""

from __future__ import annotations

import ast
import os
import sys
from typing import TYPE_CHECKING, Final

from djworker.ipc.contract import SETTINGS_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Set by every ``manage.py``, or by the command line (``--chdir``), and not meant to change.
_CHOICES: Final = (SETTINGS_VARIABLE, "DJANGO_CONFIGURATION", "PWD")
#: The interpreter's own path, which tools that start others (``opentelemetry-instrument``) put back themselves.
_PATH: Final = "PYTHONPATH"
#: Django sets it anew from the settings.
_TIME_ZONE: Final = "TZ"
#: What a program may import and call, and still have set nothing but the choices: Django's and cookiecutter's
#: ``manage.py``, pip's scripts.
_MODULES: Final = frozenset(
    {"__future__", "configurations", "django", "djworker", "importlib", "os", "pathlib", "re", "sys"}
)
_CALLS: Final = frozenset(
    {
        *(
            "execute_from_command_line",
            "main",
            "run",
            "ImportError",
            "exit",
            "sub",
            "runpy",
            "endswith",
            "removesuffix",
        ),
        *("Path", "resolve", "append", "insert", "str", "join", "dirname", "abspath", "realpath", "is_dir", "exists"),
    }
)


def for_server(current: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Choose what the server inherits.

    Args:
        current: the environment of this process as it is now.

    Returns:
        The environment, and the names in it that the program itself has set (``load_dotenv()`` in ``manage.py``): no
        generation runs that program again, so each of them needs these, and a reload sees no change of them.
    """
    started = _started(current)
    if _sets_nothing_itself():
        chosen = {name: current[name] for name in (*_CHOICES, _PATH) if name in current}
        kept = {**started, **chosen}
        if _PATH not in current:
            kept.pop(_PATH, None)
        return kept, []
    changed = [name for name, value in current.items() if started.get(name) != value]
    return dict(current), sorted(set(changed) - {*_CHOICES, _PATH, _TIME_ZONE})


def _started(current: Mapping[str, str]) -> dict[str, str]:
    """What the kernel has noted; where it notes nothing (macOS), what is there now."""
    try:
        with open("/proc/self/environ", "rb") as file:
            pairs = [entry.partition(b"=") for entry in file.read().split(b"\0")]
    except OSError:
        return dict(current)
    noted = {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs if name}
    return noted or dict(current)


def _sets_nothing_itself() -> bool:
    """Whether the program that runs is known to set nothing for the settings to find."""
    path = getattr(sys.modules["__main__"], "__file__", None) or ""
    if os.path.dirname(os.path.abspath(path)) == os.path.dirname(os.path.dirname(os.path.abspath(__file__))):
        return True  # ``python -m djworker``
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return False
    return not any(_suspicions(tree))


def _suspicions(tree: ast.AST) -> Iterator[ast.AST]:
    """Whatever may set a variable, or may call what does."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names) if any(name.name.partition(".")[0] not in _MODULES for name in names):
                yield node
            case ast.ImportFrom(module=module) if (module or "").partition(".")[0] not in _MODULES:
                yield node
            case ast.Call(func=ast.Attribute(attr="setdefault"), args=[ast.Constant(value=str(name)), *_]) if (
                name in _CHOICES
            ):
                pass
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name not in _CALLS:
                yield node
            case ast.Subscript(ctx=ast.Store(), slice=ast.Constant(value=str(name))) if name in _CHOICES:
                pass
            case ast.Subscript(ctx=ast.Store()):
                yield node

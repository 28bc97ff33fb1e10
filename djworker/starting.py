"""How ``runworkers`` looks at the process that it is about to replace, so that the next one starts alike."""

from __future__ import annotations

import os
import site
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence

import djworker

# Names that say nothing about a project: many projects keep their settings in a package called "config".
VAGUE = frozenset({"conf", "config", "core", "django_project", "project", "settings", "src"})


def logical_cwd(environ: Mapping[str, str]) -> str:
    """Return the working directory as the shell names it.

    ``os.getcwd()`` follows symbolic links. A deployment that switches ``/srv/current`` to the next release and sends
    HUP wants the new code, and would get the old for ever.
    """
    here, named = os.getcwd(), environ.get("PWD", "")
    try:
        return named if os.path.isabs(named) and os.path.samefile(named, here) else here
    except OSError:
        return here


def import_path(entries: Sequence[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return ``sys.path`` for the next interpreter: absolute, in order, each entry once."""
    return tuple(dict.fromkeys(logical_path(entry, environ) for entry in entries))


def logical_path(entry: str, environ: Mapping[str, str]) -> str:
    """Return an entry of ``sys.path`` as an absolute path, below the working directory in the shell's spelling."""
    if entry and not os.path.exists(entry):
        return entry  # editable installs put names into sys.path that only their import hook understands
    path = os.path.abspath(entry)
    here = os.getcwd()
    if path == here or path.startswith(os.path.join(here, "")):
        return logical_cwd(environ) + path[len(here.rstrip("/")) :]
    return path


def project_name(settings_module: str, directory: str) -> str:
    """Return what to call the project: its package, or its directory where the package's name says nothing."""
    package = settings_module.partition(".")[0]
    return os.path.basename(directory) or package if package in VAGUE else package


def python_flags() -> tuple[str, ...]:
    """Return the interpreter's own options (-X, -W, -O and others), for the next interpreter.

    -P is always among them: ``-m`` would look for every module in the working directory first, which may be the service
    user's, while the arbiter is root, and the mold until it has dropped that.
    """
    # Not public, but what multiprocessing itself starts its interpreters with, since Python 3.2.
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001
    return tuple(dict.fromkeys((*flags, "-P")))


def search_path(environ: Mapping[str, str]) -> str | None:
    """Return the PYTHONPATH with which ``python -m djworker...`` finds this very package; None: as it is.

    ``manage.py`` finds a djworker that is not installed (a checkout beside it) by its own directory, ``-m`` would not.
    """
    home = os.path.dirname(os.path.dirname(os.path.abspath(djworker.__file__)))
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()}
    given = environ.get("PYTHONPATH", "")
    if home in installed or home in given.split(os.pathsep):
        return None
    return os.pathsep.join(filter(None, (home, given)))


def keep_open(descriptors: Sequence[int]) -> None:
    """Let descriptors survive the ``execve``: Python closes at it what it opened, or was told so about."""
    for fd in descriptors:
        os.set_inheritable(fd, True)

"""How ``runworkers`` looks at the process that it is about to replace, so that the next one starts alike."""

from __future__ import annotations

import importlib.util
import os
import site
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from djworker.conf.problems import Problem
from djworker.conf.resolve import passed_sockets

#: Names that say nothing about a project: many projects keep their settings in a package called "config".
VAGUE: Final = frozenset({"conf", "config", "core", "django_project", "project", "settings", "src"})

#: What an arbiter or a mold imports before it has the import path of the project.
_NEEDED: Final = (
    "djworker",
    "gevent",
    "greenlet",
    "zope.event",
    "zope.interface",
    "httptools",
    "psycogreen",
    "setproctitle",
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """[arbiter to be] Where a server starts, noted before any module of the project has had a say in it.

    cwd, sys_path: as in ``Launch``. inherited: addresses of the sockets that systemd passed. pid: of the process that becomes the
    arbiter; a child of it decides where a module chooses the settings. environ: what the command line adds to the environment.
    """

    cwd: str
    sys_path: tuple[str, ...]
    inherited: tuple[str, ...]
    pid: int
    environ: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def note(cls, environ: Mapping[str, str] | None = None) -> Surroundings:
        """Take them from this process. environ: what the command line has added."""
        path = import_path(sys.path, os.environ)
        pid = os.getpid()
        return cls(logical_cwd(os.environ), path, passed_sockets(os.environ, pid), pid, environ or {})


def enter(directory: str | None, path: str | None, pairs: Sequence[str], problems: list[Problem]) -> dict[str, str]:
    """Go where the command line says, as gunicorn does; a problem for each thing that cannot be.

    directory: ``--chdir``. path: ``--pythonpath``, a list with commas. pairs: ``--env``, each ``NAME=VALUE``.

    Returns:
        What is added to the environment.
    """
    if directory:
        named = os.path.normpath(os.path.join(logical_cwd(os.environ), directory))
        try:
            os.chdir(directory)
        except OSError as error:
            problems.append(
                Problem("E032", f"--chdir {directory}: {error.strerror}", "name a folder that may be entered")
            )
        else:
            # The shell's way to name a folder by a symbolic link, which each reload is to follow anew.
            os.environ["PWD"] = named
    for entry in filter(None, (path or "").split(",")):
        sys.path.insert(0, os.path.abspath(entry))
    return _environ(pairs, problems)


def _environ(pairs: Sequence[str], problems: list[Problem]) -> dict[str, str]:
    added = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals or "\0" in pair:
            problems.append(
                Problem("E032", f"--env {pair}: no NAME=VALUE", "write --env DJANGO_SETTINGS_MODULE=shop.settings")
            )
        else:
            added[name] = value
    os.environ.update(added)
    return added


def logical_cwd(environ: Mapping[str, str]) -> str:
    """Return the working directory as the shell names it.

    ``os.getcwd()`` follows symbolic links. A deployment that switches ``/srv/current`` to the next release and sends
    HUP wants the new code, and would get the old for ever. systemd sets no PWD; there the command line may name the
    directory, as that of ``manage.py`` or of the environment's Python.
    """
    here, named = os.getcwd(), environ.get("PWD", "")
    if os.path.isabs(named) and _is_same(named, here):
        return named
    return as_named(here, sys.orig_argv)


def as_named(path: str, words: Sequence[str]) -> str:
    """Return *path* as a command line names it, where one of its words leads there by a symbolic link; else as it is.

    Python itself has followed the link: ``python /srv/current/manage.py`` has the release of today in ``sys.path``.
    """
    for word in words:
        folder = word if os.path.isabs(word) and os.path.normpath(word) == word else "/"
        while (folder := os.path.dirname(folder)) != "/":
            real = os.path.realpath(folder)
            if real != folder and (path == real or path.startswith(os.path.join(real, ""))):
                return folder + path[len(real) :]
    return path


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def other_place(named: str, here: str) -> str:
    """Return what *named* leads to, where it does so by a symbolic link and has nothing to do with *here*; else nothing.

    named: the directory of ``manage.py``, as the command line has it. here: the working directory.
    """
    target, here = os.path.realpath(named), os.path.realpath(here)
    if target == named or os.path.commonpath((target, here)) in (target, here):
        return ""
    return target


def import_path(entries: Sequence[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return ``sys.path`` for the next interpreter: absolute, in order, each entry once."""
    return tuple(dict.fromkeys(logical_path(entry, environ) for entry in entries))


def logical_path(entry: str, environ: Mapping[str, str]) -> str:
    """Return an entry of ``sys.path`` as an absolute path, below the working directory in the shell's spelling."""
    if entry and not os.path.exists(entry):
        return entry  # editable installs put names into sys.path that only their import hook understands
    path = os.path.abspath(entry)
    here = os.getcwd()
    if here != "/" and (path == here or path.startswith(os.path.join(here, ""))):
        return logical_cwd(environ) + path[len(here) :]
    return as_named(path, sys.orig_argv)


def project_name(settings_module: str, directory: str) -> str:
    """Return what to call the project: its package, or its directory where the package's name says nothing."""
    package = settings_module.partition(".")[0]
    return os.path.basename(directory) or package if package in VAGUE else package


def python_flags() -> tuple[str, ...]:
    """Return the interpreter's own options (-X, -W, -O and others), for the next interpreter.

    -P is always among them: ``-m`` would look for every module in the working directory first, which may be the service
    user's, while the arbiter is root, and the mold until it has dropped that. Those that would hide PYTHONPATH are not: it is
    how the next interpreter finds us. See ``environment_of``.
    """
    # Not public, but what multiprocessing itself starts its interpreters with, since Python 3.2.
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - multiprocessing asks it, too
    shown = ({"-I": "-s"}.get(flag, flag) for flag in flags if flag != "-E")
    return tuple(dict.fromkeys((*shown, "-P")))


def environment_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what this interpreter takes from its environment: nothing of Python's own where it was told so (``-E``, ``-I``)."""
    ignored = sys.flags.ignore_environment
    return {name: value for name, value in environ.items() if not (ignored and name.startswith("PYTHON"))}


def search_path(environ: Mapping[str, str]) -> str:
    """Return the PYTHONPATH with which ``python -m djworker...`` finds this very package, and what it is made of.

    ``manage.py`` finds a djworker that is not installed (a checkout beside it) by its own directory, ``-m`` would not. Launchers
    (buildout's scripts, PEX, Bazel) have put each package's own folder into ``sys.path``, which no other interpreter has. The
    project's own folder is passed on for djworker's sake alone: it may be the service user's, and the next interpreter is root.
    """
    given = [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()}
    projects = {os.getcwd(), os.path.abspath(sys.path[0])}
    found = {name: _home_of(name) for name in _NEEDED}
    homes = dict.fromkeys(home for name, home in found.items() if home and (name == "djworker" or home not in projects))
    return os.pathsep.join([*(home for home in homes if home not in installed and home not in given), *given])


def _home_of(name: str) -> str:
    """The entry of ``sys.path`` in which a package or a module is."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return ""
    if spec is None or not spec.origin:
        return ""
    depth = name.count(".") + (spec.submodule_search_locations is not None)
    home = os.path.dirname(os.path.abspath(spec.origin))
    for _ in range(depth):
        home = os.path.dirname(home)
    return home


def without_agents(path: str) -> str:
    """Return a PYTHONPATH without the places where something waits for every interpreter that starts.

    That is how ``opentelemetry-instrument``, ``ddtrace-run`` and ``newrelic-admin`` come into a program. They belong into the
    processes that run the project, and neither their threads nor their code into the arbiter.
    """
    kept = [entry for entry in path.split(os.pathsep) if entry and not any(map(os.path.exists, _customizations(entry)))]
    return search_path({"PYTHONPATH": os.pathsep.join(kept)})


def _customizations(entry: str) -> Iterator[str]:
    return (os.path.join(entry, f"{name}.py") for name in ("sitecustomize", "usercustomize"))


def keep_open(descriptors: Sequence[int]) -> None:
    """Let descriptors survive the ``execve``: Python closes at it what it opened, or was told so about."""
    for fd in descriptors:
        os.set_inheritable(fd, True)


def find_configurations(environ: Mapping[str, str]) -> None:
    """Let settings be a class of django-configurations: its own ``manage.py`` and ``wsgi.py`` install the same importer."""
    if environ.get("DJANGO_CONFIGURATION") and importlib.util.find_spec("configurations") is not None:
        importlib.import_module("configurations.importer").install()

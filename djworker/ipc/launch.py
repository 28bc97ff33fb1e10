"""What ``runworkers`` tells the arbiter, across the ``execve`` that turns one into the other."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from djworker.conf import variables
from djworker.conf.table import Config
from djworker.ipc.contract import SETTINGS_VARIABLE

#: First in the PYTHONPATH of a mold: gevent's patch comes before an agent's ``sitecustomize``.
BEFORE: Final = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "mold", "before")


@dataclass(frozen=True, slots=True)
class Launch:
    """[arbiter, mold] How the server was started: enough to load the project, and to resolve its options, once more.

    settings_module: DJANGO_SETTINGS_MODULE. sys_path: the import path of ``manage.py``, in order, all absolute, the
    project's directory first; see ``import_path``. cwd: the directory of the start, to be entered anew for every
    generation (a deployment may have moved the symbolic link in it). cli: the options of the command line, raw, so that
    the mold gets the same precedence on a reload. inherited: addresses (``fd://3``) of the sockets that systemd passed.
    config: the configuration as resolved at the start. proc_name: the project's name, for process titles. python_flags:
    the interpreter's own options, such as ``-X dev``; give them to every interpreter that is started. descriptor_limit:
    the soft limit of the start; programs that a view starts get it back. app: ``MODULE[:APP]`` of the command line, whose
    module is imported before the settings and chooses them; empty where the settings name the application. environ: what
    the command line (``--env``, ``--settings``) adds to the environment of each generation. search_path: the PYTHONPATH of
    what loads the project; the arbiter's own leaves out where agents are.
    """

    settings_module: str
    sys_path: tuple[str, ...]
    cwd: str
    cli: Mapping[str, Any]
    inherited: tuple[str, ...]
    config: Config
    proc_name: str
    python_flags: tuple[str, ...] = ()
    descriptor_limit: int = 1024
    app: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    search_path: str = ""

    def enter(self) -> None:
        """[mold] Be in the directory, and have the import path and the environment, that the server was started with."""
        os.chdir(self.cwd)
        sys.path[:] = self.import_path(sys.path)
        os.environ.update(self.environ)
        if not self.app:  # else its module puts it there
            os.environ[SETTINGS_VARIABLE] = self.settings_module

    def for_mold(self, environ: Mapping[str, str]) -> dict[str, str]:
        """[arbiter] Return the environment of an interpreter that is to load the project. environ: the arbiter's own.

        Ours come last: the mold changes them before it can have ``process.make_room_for_title`` look at the first.
        """
        path = os.pathsep.join(filter(None, (BEFORE, self.search_path)))
        ours = {variables.LAUNCH: self.to_json(), "PYTHONPATH": path}
        return {name: value for name, value in environ.items() if name not in ours} | ours

    def import_path(self, current: Sequence[str]) -> list[str]:
        """Return what ``sys.path`` must be to import what ``manage.py`` could.

        current: this interpreter's ``sys.path`` without the entry that ``-m`` added. It stands behind ours: normally
        it has nothing new, but after an upgrade of Python it has the new library.
        """
        return [*self.sys_path, *(entry for entry in current if entry not in self.sys_path)]

    def to_json(self) -> str:
        """Write the text for the environment variable."""
        # asdict() would copy the configuration's tuples as they are; to_json() knows its own form.
        return json.dumps({**asdict(self), "config": self.config.to_json()}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what ``to_json`` wrote. Raises ValueError where it is something else."""
        try:
            data = json.loads(text)
            for name in ("sys_path", "inherited", "python_flags"):
                data[name] = tuple(data[name])
            return cls(**{**data, "config": Config.from_json(data["config"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"{variables.LAUNCH} is not what runworkers writes: {error}") from error

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the launch of this process. Raises LookupError where runworkers did not start it."""
        if variables.LAUNCH not in environ:
            raise LookupError(f"{variables.LAUNCH} is not set: start the server with manage.py runworkers")
        return cls.from_json(environ[variables.LAUNCH])

"""What is to be known of an application, to install, fill, serve and crawl it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

#: Seconds for one command of an application. Weblate's migrations take two minutes on a busy machine.
_COMMAND_WITHIN: Final = 900
POSTGRES, MARIADB = "PostgreSQL", "MariaDB"
USER, PASSWORD = "editor", "correct-horse-battery-staple"
EMAIL = "editor@example.com"


class ApplicationFailed(RuntimeError):
    """A command of an application has failed; the message holds the end of what it wrote."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an application is set up. folder: its own; database: Django's entry for DATABASES; redis: a server's URL."""

    python: Path
    folder: Path
    database: Mapping[str, str]
    redis: str
    variables: Mapping[str, str] = field(default_factory=dict)

    def environ(self) -> dict[str, str]:
        """For every process of it. The settings read the database from there, so that both servers have one project."""
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        return {
            **kept,
            "PATH": f"{self.python.parent}:{os.environ['PATH']}",
            "APPS_DATABASE": json.dumps(self.database),
            "APPS_REDIS": self.redis,
            "PYTHONHASHSEED": "0",  # Wagtail writes sets into pages
            "PYTHONPATH": str(self.folder),
            **self.variables,
        }

    def run(self, *command: str, text: str = "") -> str:
        """Run one command of the application there; what it wrote. Raises ApplicationFailed."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environ(),
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_COMMAND_WITHIN,
            check=False,
        )
        if done.returncode:
            raise ApplicationFailed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-6000:]}")
        return done.stdout

    def manage(self, *words: str, text: str = "") -> str:
        """Run ``manage.py`` there."""
        return self.run(str(self.python), "manage.py", *words, text=text)

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@dataclass(frozen=True, slots=True)
class Application:
    """One application.

    packages: for pip; the first is the application. prepare: makes and fills the project in its empty folder. wsgi, settings:
    modules. login: the path of its form, and the form's fields. seeds: where the crawl begins. avoid: patterns of paths that
    are not visited. differs: patterns in bodies that are never twice the same, each with its reason. databases: on which it
    runs; without: why not on the other. variables: further environment.
    """

    name: str
    packages: Sequence[str]
    prepare: Callable[[Place], None]
    wsgi: str
    settings: str
    login: str
    fields: Mapping[str, str]
    seeds: Sequence[str]
    avoid: Sequence[str] = ()
    differs: Mapping[str, str] = field(default_factory=dict)
    databases: Sequence[str] = (POSTGRES, MARIADB)
    without: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    remark: str = ""

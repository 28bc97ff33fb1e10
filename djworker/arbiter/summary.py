"""The first line of the log: whose server this is, which versions it runs, and how it was asked to serve.

Versions are those of the installed packages: the arbiter imports none of them.
"""

from __future__ import annotations

import importlib.metadata
import platform
from typing import TYPE_CHECKING

import djworker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djworker.ipc.launch import Launch


def of_start(launch: Launch) -> dict[str, object]:
    """The fields of ``arbiter_started``."""
    config = launch.config
    return {
        "djworker": djworker.__version__,
        "python": platform.python_version(),
        "django": _version("Django"),
        "gevent": _version("gevent"),
        "settings": launch.settings_module,
        "app": launch.app,
        "workers": config.workers,
        "preload": config.preload,
        "user": config.user or "",
        "cwd": launch.cwd,
    }


def sentence(fields: Mapping[str, object]) -> str:
    """The same for people; the fields follow it."""
    what = fields["app"] or fields["settings"]
    noun = "worker" if fields["workers"] == 1 else "workers"
    return f"djworker {fields['djworker']} serves {what} with {fields['workers']} {noun}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # a checkout in the import path
        return ""

"""A virtual environment for each application, kept below a cache folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
#: What both servers and both databases need, besides the application.
COMMON: Final = ("gunicorn", "psycopg[binary]", "mysqlclient")
_CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "djworker-apps"
_VERSIONS: Final = """
import importlib.metadata, json, platform, sys
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]} | {"Python": platform.python_version()}))
"""


def cache() -> Path:
    """Return the folder; APPS_CACHE names another one."""
    return Path(os.environ.get("APPS_CACHE", _CACHE))


def python_of(name: str, packages: Sequence[str], base: str = sys.executable, common: Sequence[str] = COMMON) -> Path:
    """Return the interpreter of an environment that has the packages, the common ones, and this djworker.

    What is installed is kept until the list of packages changes: newer releases come with ``rm -r`` of the folder.
    """
    folder = cache() / "venvs" / name
    python, stamp = folder / "bin" / "python", folder / "packages"
    # The application first: what it pins, the others have to live with.
    steps = [list(packages), ["setuptools", "wheel", *common, "--editable", str(ROOT)]]
    wanted = "\n".join([base, *common, *packages, str(ROOT)])
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([base, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        for step in steps:
            subprocess.run([*pip, *step], check=True)
        stamp.write_text(wanted)
    return python


def versions(python: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the versions of these packages there, and Python's."""
    found = subprocess.run([str(python), "-c", _VERSIONS, *names], capture_output=True, text=True, check=True)
    result: dict[str, str] = json.loads(found.stdout)
    return result

"""A Django project of two files, and what `manage.py check` says of it in an interpreter of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
MANAGE = "import sys; from django.core.management import execute_from_command_line; execute_from_command_line(sys.argv)"
_FOUND = re.compile(r"\((djworker\.[EW][0-9]+)\) (.*)\n\tHINT: (.*)")


class Site:
    """Settings are written as they stand in a file."""

    def __init__(self, folder: Path, settings: str, first: str = "", **modules: str) -> None:
        """first: what a `manage.py` of its own would do before all else; modules: further files."""
        self.folder = folder
        self._program = f"{first}\n{MANAGE}"
        for name, text in {"settings": settings, **modules}.items():
            path = folder / f"{name.replace('.', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def manage(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One command of `manage.py`."""
        known = {name: value for name, value in os.environ.items() if not name.startswith("DJWORKER_")}
        path = os.pathsep.join([str(self.folder), str(ROOT)])
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", self._program, *words],
            env={**known, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": path},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def check(self, *words: str) -> list[tuple[str, str, str]]:
        """What our checks find: id, text, hint; in order. Django must have nothing to add."""
        done = self.manage("check", *words)
        assert "Traceback" not in done.stderr, done.stderr
        found = _FOUND.findall(done.stderr)
        assert f"identified {len(found)} issue" in done.stdout + done.stderr or not found, done
        return sorted(found)


def ids(found: list[tuple[str, str, str]]) -> list[str]:
    """`W102 aged`: the number, and the alias that it speaks of."""
    return [
        f"{number.removeprefix('djworker.')} {(re.findall(chr(39) + '(.*?)' + chr(39), text) or [text])[0]}"
        for number, text, _ in found
    ]

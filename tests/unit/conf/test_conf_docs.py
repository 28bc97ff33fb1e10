"""The reference is made from the tables, and the tables are complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from djworker.accesslog import ATOMS
from djworker.conf import OPTIONS
from djworker.problems import CATALOGUE

ROOT = Path(__file__).resolve().parents[3]

CONF = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "docs" / "_ext")!r}]
project = "reference"
extensions = ["djworker_settings"]
"""
INDEX = """
Reference
=========

.. djworker-settings::

Problems
--------

.. djworker-problems::

Atoms
-----

.. djworker-atoms::

See :confval:`WORKERS` and :confval:`ACCESS_LOG_FORMAT`.
"""


def test_the_reference_is_built_without_a_warning_and_has_everything(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(CONF)
    (tmp_path / "index.rst").write_text(INDEX)
    command = [sys.executable, "-m", "sphinx", "-q", "-n", "-W", "-b", "text", str(tmp_path), str(tmp_path / "out")]
    subprocess.run(command, check=True, timeout=100)
    text = (tmp_path / "out" / "index.txt").read_text()
    for option in OPTIONS.values():
        assert option.key in text
        assert option.variable in text
        assert all(flag in text for flag in option.flags)
    assert all(f"djworker.{number}" in text for number in CATALOGUE)
    assert all(f"%({name})s" in text for name in ATOMS)
    assert "needs a restart" in text


def test_every_problem_id_is_catalogued_and_every_catalogued_one_is_used() -> None:
    sources = [
        path for path in (ROOT / "djworker").rglob("*.py") if path.name != "problems.py" and "db" not in path.parts
    ]
    used = {number for path in sources for number in re.findall(r'"([EW]0\d\d)"', path.read_text())}
    assert used == set(CATALOGUE)

"""The reference is made from the tables, and the tables are complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from djworker.conf.pool_table import POOL_OPTIONS
from djworker.conf.problems import CATALOGUE
from djworker.conf.table import OPTIONS
from djworker.log.access import ATOMS
from djworker.start.gunicorn import BY_NAME

ROOT = Path(__file__).resolve().parents[3]

CONF = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "docs" / "_ext")!r}]
project = "reference"
extensions = ["myst_parser", "djworker_settings"]
smartquotes = False
"""
DIRECTIVES = ("settings::", "pool-options::", "problems::", "problems:: W1", "atoms::", "gunicorn::")


def page() -> str:
    """As the pages of the documentation: in Markdown, where a directive that writes reStructuredText needs a fence for it."""
    parts = [f"```{{eval-rst}}\n.. djworker-{directive}\n```" for directive in DIRECTIVES]
    return "\n\n".join(["# Reference", *parts, "See {confval}`WORKERS` and {confval}`POOL.max_size`."])


def test_the_reference_is_built_without_a_warning_and_has_everything(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(CONF)
    (tmp_path / "index.md").write_text(page())
    command = [sys.executable, "-m", "sphinx", "-q", "-n", "-W", "-b", "text", str(tmp_path), str(tmp_path / "out")]
    subprocess.run(command, check=True, timeout=100)
    text = (tmp_path / "out" / "index.txt").read_text()
    for option in (*OPTIONS.values(), *POOL_OPTIONS.values()):
        assert option.key in text
        assert option.variable in text
        assert all(flag in text for flag in option.flags)
    assert all(text.count(f"djworker.{number}") == 1 + number.startswith("W1") for number in CATALOGUE)
    assert all(f"%({name})s" in text for name in ATOMS)
    assert all(f"{option.title}\n" in text for option in POOL_OPTIONS.values())
    assert all(option.spec.help in " ".join(text.split()) for option in POOL_OPTIONS.values())
    flat = "".join(text.split())  # long names are broken at their hyphens
    assert all(
        "".join(part.split()) in flat for known in BY_NAME.values() for part in (known.name, *known.flags, known.text)
    )
    assert "needs a restart" in text
    assert "confval::" not in text


def test_the_documentation_has_them_in_such_fences() -> None:
    """Without it, Markdown shows the reStructuredText as it is, and nobody is warned."""
    pages = [path.read_text() for path in (ROOT / "docs").rglob("*.md")]
    assert sum(text.count("\n```{eval-rst}\n.. djworker-") for text in pages) >= len(DIRECTIVES)
    assert not any("{djworker-" in text for text in pages)


def test_every_problem_id_is_catalogued_and_every_catalogued_one_is_used() -> None:
    sources = [path for path in (ROOT / "djworker").rglob("*.py") if path.name != "problems.py"]
    used = {number for path in sources for number in re.findall(r'"(?:djworker\.)?([EW]\d{3})"', path.read_text())}
    assert used == set(CATALOGUE)


def test_the_documentation_speaks_of_no_other_problem() -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    named = {number for path in pages for number in re.findall(r"\b(?:djworker\.)?([EW]\d{3})\b", path.read_text())}
    assert named <= set(CATALOGUE)
    assert named

"""One handwriting for the whole package, as far as it can be read by a test. `CONTRIBUTING.md` has the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "djworker"
#: They hide the subject: say *a client*, *the caller*, *no worker*, *another process*.
RIDDLES = re.compile(r"\b(?:nobody|somebody|anybody|everybody|whoever|whom)\b", re.IGNORECASE)
WITHOUT_REASON = re.compile(r"# noqa(?:: [A-Z0-9, ]+)?$")
#: `LIMIT = 5` at the beginning of a line.
NOT_FINAL = re.compile(r"^_?[A-Z][A-Z0-9_]+ = ")


def modules() -> list[Path]:
    """Every module of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def pages() -> list[Path]:
    """Every page of the documentation, and those beside it."""
    return sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])


def lines(paths: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Each line, with its place."""
    for path in paths:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            yield f"{path.relative_to(ROOT)}:{number}", line


def found(pattern: re.Pattern[str], paths: Iterable[Path]) -> list[str]:
    """Where it is, and what it is."""
    return [f"{place}: {line.strip()}" for place, line in lines(paths) if pattern.search(line)]


def test_each_sentence_names_its_subject() -> None:
    assert found(RIDDLES, [*modules(), *pages()]) == []


def test_each_noqa_has_its_reason() -> None:
    """Behind it (`# noqa: PLC0415 - optional`), or in pyproject.toml where it holds for a kind of module."""
    assert found(WITHOUT_REASON, modules()) == []


def test_constants_are_final() -> None:
    assert found(NOT_FINAL, modules()) == []

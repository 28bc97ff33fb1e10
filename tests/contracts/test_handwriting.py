"""One handwriting for the whole package, as far as it can be read by a test. `CONTRIBUTING.md` has the rest."""

from __future__ import annotations

import ast
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


def test_a_packages_docstring_says_where_it_lives() -> None:
    """The process in brackets, or a paragraph behind the first line; that of one engine leads to its `base`."""
    packages = {path: ast.get_docstring(ast.parse(path.read_text())) or "" for path in PACKAGE.rglob("__init__.py")}
    rooms = {path: text for path, text in packages.items() if len(list(path.parent.glob("*.py"))) > 2}
    assert len(rooms) > 15
    told = re.compile(r"\[\w|See `base`|.*\n\n", re.DOTALL)
    assert [str(path) for path, text in rooms.items() if not told.match(text)] == []


def test_a_tests_name_is_a_sentence() -> None:
    """Of three words at least."""
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for name in re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE)
        if name.count("_") < 3
    ]
    assert found == []


def test_an_unpatched_function_is_had_from_one_place() -> None:
    """`process.unpatched`, which can be called where gevent is not."""
    places = found(re.compile(r"get_original"), modules())
    assert {place.partition(":")[0] for place in places} == {"djworker/process.py"}

"""The fenced code blocks of README and docs, and which test runs each of them.

A test that runs blocks says so by its decorator, ``@runs("howto/deploy.md", "Type=notify")``, and gets them as its argument
``blocks``. ``tests/docs/test_every_block.py`` finds these decorators in the source of all tests, so that a block which no test
runs fails the run: a new block cannot escape. Directives of Sphinx (```` ```{toctree} ````) are run by the build of the docs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: A fence may be indented, in a list; what is in it is indented as much.
FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,}|:{3,}|~{3,})(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """One code block: where it stands, its language, and its text without the indentation."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        """Return it as a test's id and as a place to jump to."""
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page that a user or a contributor reads."""
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
    built = ROOT / "docs" / "_build"
    return [
        *filter(Path.exists, top),
        *sorted(path for path in (ROOT / "docs").rglob("*.md") if built not in path.parents),
    ]


def name_of(path: Path) -> str:
    """``README.md`` as it is, a page of the documentation from ``docs`` on."""
    return str(path.relative_to(ROOT)).removeprefix("docs/")


def blocks_in(path: Path) -> Iterator[Block]:
    """The blocks of one page."""
    return blocks_of(name_of(path), path.read_text())


def blocks_of(page: str, text: str) -> Iterator[Block]:
    """The blocks of a page's text."""
    for found in FENCE.finditer(text):
        indent, language = found["indent"], found["language"].strip()
        if language.startswith("{"):
            continue
        inside = "".join(line.removeprefix(indent) for line in found["text"].splitlines(keepends=True))
        yield Block(page, text.count("\n", 0, found.start()) + 1, language, inside)


def all_blocks() -> list[Block]:
    """Every block of every page."""
    return [block for path in pages() for block in blocks_in(path)]


def find(page: str, text: str) -> Block:
    """The one block of the page in which this stands."""
    path = ROOT / "docs" / page if (ROOT / "docs" / page).exists() else ROOT / page
    found = [block for block in blocks_in(path) if text in block.text]
    assert len(found) == 1, f"{len(found)} blocks of {page} have {text!r}; one is needed"
    return found[0]


def runs(page: str, *texts: str) -> Callable[[Any], Any]:
    """Give a test these blocks, each known by a piece of its text, as the argument ``blocks``."""
    return pytest.mark.parametrize("blocks", [tuple(find(page, text) for text in texts)], ids=[page])


def claims() -> Iterator[tuple[str, str, str]]:
    """For each block that a decorator names: the page, the piece of text, and the test.

    The source is read, not imported: a module of tests may need an interpreter that gevent has patched.
    """
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        source = path.read_text()
        if "tests.docs.blocks import" not in source:
            continue
        tree = ast.parse(source)
        names = dict(_texts(tree))
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef) or not function.name.startswith("test_"):
                continue
            for decorator in function.decorator_list:
                page, *texts = _arguments(decorator, names) or [""]
                yield from ((page, text, f"{path.relative_to(ROOT)}::{function.name}") for text in texts)


def _texts(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The module's own names for texts, such as ``PAGE``."""
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
                yield name, text


def _arguments(decorator: ast.expr, names: dict[str, str]) -> list[str]:
    if not isinstance(decorator, ast.Call) or getattr(decorator.func, "id", "") != "runs":
        return []
    return [names[item.id] if isinstance(item, ast.Name) else ast.literal_eval(item) for item in decorator.args]

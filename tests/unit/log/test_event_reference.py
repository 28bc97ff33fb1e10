"""The reference names every event: tools are built on those names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from djworker.control.protocol import KINDS

ROOT = Path(__file__).resolve().parents[3]
TELLERS = {"event", "tell", "_tell", "say", "_say", "_announce", "mold", "worker", "LongHold"}
REFERENCE = ROOT / "docs" / "reference" / "events.md"
#: Arguments of the calls that are no fields; ``exc_info`` becomes ``traceback``.
NO_FIELDS = {"level", "exc_info", "stacklevel"}
NAME = re.compile(r"[a-z]+(?:_[a-z]+)*")


def callee(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def told_in(source: str) -> Iterator[str]:
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call):
            yield from told_by(call)


def told_by(call: ast.Call) -> Iterator[str]:
    """The first literal of a call that tells of an event; the logger and the level before it are no literals."""
    if callee(call) in TELLERS:
        texts = [item.value for item in call.args if isinstance(item, ast.Constant) and isinstance(item.value, str)]
        yield from (text for text in texts[:1] if NAME.fullmatch(text))


def test_every_event_is_in_the_reference() -> None:
    sources = [
        path for path in (ROOT / "djworker").rglob("*.py") if path.name != "rules.py"
    ]  # whose findings are options'
    told = {name for path in sources for name in told_in(path.read_text())}
    described = set(re.findall(r"`([a-z_]+)`", REFERENCE.read_text()))
    assert len(told) > 45  # or they are told by other names now
    assert told - set(KINDS) <= described  # what the control socket tells its client of is no event


def test_every_field_of_an_event_is_in_its_row() -> None:
    """As far as the call names event and fields."""
    rows = [line.split("|") for line in REFERENCE.read_text().splitlines() if line.startswith("| `")]
    promised = {name: set(re.findall(r"\w+", row[-2])) for row in rows for name in re.findall(r"`([a-z_]+)`", row[1])}
    told = [
        (name, {keyword.arg for keyword in call.keywords if keyword.arg})
        for path in (ROOT / "djworker").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        for name in promised.keys() & set(told_by(call))
    ]
    assert sum(len(fields) for _, fields in told) > 100  # or they are given in other ways now
    lacking = {name: missing for name, fields in told if (missing := fields - promised[name] - NO_FIELDS)}
    assert not lacking


def test_nothing_else_is_promised() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "djworker").rglob("*.py"))
    rows = [line for line in REFERENCE.read_text().splitlines() if line.startswith("| `")]
    names = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])}
    assert {name for name in names if f'"{name}"' not in source} == set()

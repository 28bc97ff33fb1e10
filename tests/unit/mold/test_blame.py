"""Whose module an exception is about: the project's own, wherever the libraries stand."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from djworker.mold import blame


@pytest.fixture
def blamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[str, str]]:
    """Import a module ``culprit`` with this code, as a project's; the module that is blamed, and the sentence."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def import_it(code: str) -> tuple[str, str]:
        (tmp_path / "culprit.py").write_text(code)
        (tmp_path / "innocent.py").write_text("import culprit\n")
        try:
            importlib.import_module("innocent")
        except BaseException as error:  # noqa: BLE001 - SystemExit among others
            return blame.module_of(error), blame.sentence(error)
        finally:
            for name in ("culprit", "innocent"):
                sys.modules.pop(name, None)
        raise AssertionError("it was imported")

    return import_it


@pytest.mark.parametrize(
    "code, module, says",
    [
        ("raise RuntimeError('no luck')", "culprit", "RuntimeError: no luck"),
        ("def broken(:", "culprit", "SyntaxError: invalid syntax"),
        ("import no_such_thing_at_all", "culprit", "ModuleNotFoundError: No module named 'no_such_thing_at_all'"),
        ("import json; json.loads('{')", "culprit", "JSONDecodeError"),
        ("try:\n    1 / 0\nexcept Exception as e:\n    raise ValueError('two') from e", "culprit", "ZeroDivisionError"),
        ("try:\n    1 / 0\nexcept Exception:\n    raise ValueError('two') from None", "culprit", "ValueError: two"),
        ("raise SystemExit(4)", "culprit", "SystemExit: 4"),
        ("raise RuntimeError('one\\ntwo')", "culprit", "two"),
    ],
)
def test_the_projects_module_is_blamed(
    blamed: Callable[[str], tuple[str, str]], code: str, module: str, says: str
) -> None:
    found, sentence = blamed(code)
    assert found == module
    assert says in sentence
    assert "\n" not in sentence


def test_a_chain_that_bites_its_tail() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert blame.sentence(one) == "ValueError: one (ValueError: two)"


def test_without_a_traceback() -> None:
    assert blame.module_of(ValueError("x")) == "builtins"
    assert blame.module_of(ImportError("x", name="lacking")) == "lacking"


@pytest.mark.parametrize(
    "filename, ours",
    [
        (traceback.__file__, False),
        ("/srv/shop/.venv/lib/python3.11/site-packages/django/apps/registry.py", False),
        (blame.__file__, False),
        ("/srv/shop/views.py", True),
        ("<frozen importlib._bootstrap>", False),
    ],
)
def test_what_is_the_project(filename: str, ours: bool) -> None:  # noqa: FBT001
    assert blame.is_project(filename) is ours


def test_places_are_those_of_the_project() -> None:
    stack = [
        traceback.FrameSummary("/srv/shop/views.py", 7, "index", lookup_line=False),
        traceback.FrameSummary(traceback.__file__, 1, "walk", lookup_line=False),
    ]
    assert blame.project_place(stack) == "/srv/shop/views.py:7 in index"
    between = [
        traceback.FrameSummary(f"/srv/shop/.venv/lib/python3.11/site-packages/{name}", 3, "run", lookup_line=False)
        for name in ("django/apps/registry.py", "django_apscheduler/apps.py", "gevent/greenlet.py")
    ]
    assert blame.project_place([*stack, *between]) == "/srv/shop/views.py:7 in index"
    assert blame.project_place(between).endswith("django_apscheduler/apps.py:3 in run")
    ours = traceback.FrameSummary(blame.__file__, 3, "load", lookup_line=False)
    assert blame.project_place([*stack[1:], ours, *between[::2]]) == "an unknown place"
    assert blame.project_place([]) == "an unknown place"
    assert blame.frame_place(None) == "an unknown place"
    assert blame.first_module([f"greenlet 'x', started at {blame.__file__}:3 in y"]) == "djworker.mold.blame"

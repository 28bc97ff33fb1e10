"""Which settings module a project's ``wsgi.py`` would choose, read from its text: to run it would be to load the project.

``manage.py`` and ``wsgi.py`` often name different ones, development's and production's. A server that is started by
``manage.py`` where gunicorn was started with ``wsgi.py`` then serves with DEBUG=True.
"""

from __future__ import annotations

import ast
import importlib.machinery
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from djworker.ipc.contract import SETTINGS_VARIABLE

__all__ = ["choices", "initial_value", "source_of"]

#: What a process has been started with (proc(5)); ``manage.py`` has changed ``os.environ`` since.
_INITIAL: Final = "/proc/self/environ"


def initial_value(environ: Mapping[str, str], chosen: str | None) -> str | None:
    """Return the settings module that a server's surroundings name, before any program of the project does; None for none.

    environ: where there is no /proc, it is asked, and has ``manage.py``'s word in it. chosen: ``--settings``.
    """
    if chosen:
        return chosen
    try:
        with open(_INITIAL, "rb") as file:
            pairs = (entry.partition(b"=") for entry in file.read().split(b"\0"))
            found = {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
    except OSError:
        return environ.get(SETTINGS_VARIABLE)
    return found.get(SETTINGS_VARIABLE)


def source_of(module: str, path: Sequence[str]) -> str | None:
    """Return the text of a module that is a file in *path* (as ``sys.path``), without importing anything."""
    places: Sequence[str] | None = path
    origin = None
    for part in module.split("."):
        spec = importlib.machinery.PathFinder.find_spec(part, places)
        if spec is None:
            return None
        places, origin = spec.submodule_search_locations, spec.origin
    try:
        with open(origin or "", encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None


def choices(source: str, initial: str | None) -> frozenset[str]:
    """Return the settings modules that this text may leave in the environment; empty where that cannot be told.

    initial: what is in the environment before. More than one where it depends on a condition.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return frozenset()
    possible: set[str | None] = {initial}
    for always, forced, value in _orders(tree):
        if value is None:
            return frozenset()
        changed: set[str | None] = {value if forced or not before else before for before in possible}
        possible = changed if always else possible | changed
    return frozenset(name for name in possible if name)


def _orders(tree: ast.Module) -> Iterator[tuple[bool, bool, str | None]]:
    """Each place that names the settings: is it always run, does it overwrite, and the name where it stands there."""
    names = dict(_constants(tree))
    always = set(map(id, tree.body))
    statements = (node for node in ast.walk(tree) if isinstance(node, ast.stmt))
    for statement in sorted(statements, key=lambda node: node.lineno):
        if isinstance(statement, ast.Assign) and any(_is_entry(target, names) for target in statement.targets):
            yield id(statement) in always, True, _text(statement.value, names)
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            yield from _call(statement.value, names, always=id(statement) in always)


def _call(call: ast.Call, names: Mapping[str, str], *, always: bool) -> Iterator[tuple[bool, bool, str | None]]:
    if not isinstance(call.func, ast.Attribute) or not _is_environ(call.func.value):
        return
    if call.func.attr == "setdefault" and len(call.args) > 1 and _text(call.args[0], names) == SETTINGS_VARIABLE:
        yield always, False, _text(call.args[1], names)
    elif call.func.attr == "update":
        pairs: list[tuple[ast.expr, ast.expr]] = [(ast.Constant(word.arg), word.value) for word in call.keywords]
        for given in call.args:
            if isinstance(given, ast.Dict):
                pairs += [(key, value) for key, value in zip(given.keys, given.values, strict=True) if key is not None]
        for key, value in pairs:
            if _text(key, names) == SETTINGS_VARIABLE:
                yield always, True, _text(value, names)


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    yield "ENVIRONMENT_VARIABLE", SETTINGS_VARIABLE  # django.conf has it under this name
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            for target in statement.targets:
                if isinstance(target, ast.Name) and isinstance(statement.value.value, str):
                    yield target.id, statement.value.value


def _is_entry(node: ast.expr, names: Mapping[str, str]) -> bool:
    return isinstance(node, ast.Subscript) and _is_environ(node.value) and _text(node.slice, names) == SETTINGS_VARIABLE


def _is_environ(node: ast.expr) -> bool:
    """``os.environ`` or ``environ``."""
    return (isinstance(node, ast.Attribute) and node.attr == "environ") or (
        isinstance(node, ast.Name) and node.id == "environ"
    )


def _text(node: ast.expr, names: Mapping[str, str]) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return names.get(node.id) if isinstance(node, ast.Name) else None

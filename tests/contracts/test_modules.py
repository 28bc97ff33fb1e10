"""The package as a whole: no circle of imports, no name for two classes, and one place for what processes agree upon."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from djworker.ipc import contract

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "djworker"
#: Django asks for these by name: one in each engine, for each command, or in a model.
OF_DJANGO = {"Command", "DatabaseOperations", "DatabaseWrapper", "Meta"}


@cache
def modules() -> Mapping[str, ast.Module]:
    """Each module of the package, parsed, by its dotted name."""
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    return {name.removesuffix(".__init__"): ast.parse(path.read_text()) for name, path in sorted(files.items())}


def imports(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import: to write one inside of a function, or for type checkers alone, only hides that a module needs the other."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))


def named(statement: ast.Import | ast.ImportFrom, known: Mapping[str, object]) -> Iterator[str]:
    """The modules of the package that a statement names."""
    if isinstance(statement, ast.ImportFrom):
        assert not statement.level, "imports here are absolute"
        inside = [f"{statement.module}.{alias.name}" for alias in statement.names]
        yield from (name if name in known else str(statement.module) for name in inside)
    else:
        yield from (alias.name for alias in statement.names)


def import_graph(known: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Module to the modules of the package that it imports."""
    return {
        module: {name for statement in imports(tree) for name in named(statement, known) if name in known} - {module}
        for module, tree in known.items()
    }


def circle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """One circle, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def classes_by_name(known: Mapping[str, ast.Module]) -> dict[str, list[str]]:
    """Name of a class to the modules that define one."""
    found: dict[str, list[str]] = defaultdict(list)
    for module, tree in known.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(module)
    return found


def test_no_module_imports_itself_through_others() -> None:
    assert not circle_in(import_graph(modules()))


def test_a_circle_is_found_wherever_its_import_stands() -> None:
    parsed = {
        "a": ast.parse("import b"),
        "b": ast.parse("def later():\n    from c import x"),
        "c": ast.parse("from d import y"),
        "d": ast.parse("import b.inside"),
    }
    assert not circle_in(import_graph(parsed))
    for text in (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a",
        "def later():\n    from a import x",
    ):
        parsed["c"] = ast.parse(text)
        assert set(circle_in(import_graph(parsed))) == {"a", "b", "c"}


def assigned(tree: ast.Module) -> set[str]:
    """The constants that a module gives a value of its own."""
    targets: list[ast.expr] = [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    targets += [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    return {target.id for target in targets if isinstance(target, ast.Name) and target.id.isupper()}


def test_what_two_processes_agree_upon_stands_in_the_contract_alone() -> None:
    others = {module: tree for module, tree in modules().items() if module != contract.__name__}
    agreed = assigned(modules()[contract.__name__])
    assert not {module: agreed & assigned(tree) for module, tree in others.items() if agreed & assigned(tree)}
    words = {*contract.Flag, contract.MOLD, contract.SETTINGS_VARIABLE} - {"--check"}  # runworkers has that, too
    for module, tree in others.items():
        said = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        assert not words & said, module


def test_no_class_name_stands_twice_in_the_package() -> None:
    twice = {name: where for name, where in classes_by_name(modules()).items() if len(where) > 1}
    assert not {name: where for name, where in twice.items() if name not in OF_DJANGO}

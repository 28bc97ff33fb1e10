"""What the house has given up stays away: code for tests alone, `Any` for what has a type, a second door to a state."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.contracts.test_modules import PACKAGE, ROOT, modules

#: They are called by name, by what they are made for: Django, Python's data model and the like.
CALLED_BY_OTHERS = {
    "DjworkerConfig", "ServerPageConfig",  # Django's applications
    "WorkersAdmin", "get_urls", "has_add_permission", "has_change_permission", "has_delete_permission",
    "has_module_permission",  # Django's admin
    "check_capacity", "check_databases", "check_options", "check_proxies",  # Django's checks
    "run_from_argv",  # Django's commands
    "pg_version",  # Django's engine for PostgreSQL
    "createLock",  # logging
    "handle_system_error",  # gevent's hub
    "readinto", "readlines",  # io, PEP 3333
    "extend_deadline",  # for projects
    "CATALOGUE", "SCHEMAS",  # the reference is made of them
    "_BEGAN",  # the first of a row of places
}  # fmt: skip
#: Of 100 lines of `djworker.db`. It was 7.1 before its objects had types.
MOST_ANY = 7.1 / 2


def definitions(tree: ast.Module) -> Iterator[str]:
    """Classes, functions and methods, and what a module gives a name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif (
            isinstance(node, ast.Name)
            and isinstance(node.ctx, ast.Store)
            and (node.id.isupper() or not node.col_offset)
        ):
            yield node.id


def is_list_of_names(node: ast.AST) -> bool:
    """Whether it is `__all__`."""
    return isinstance(node, ast.Assign) and "__all__" in {ast.unparse(target) for target in node.targets}


def uses(node: ast.AST) -> Iterator[str]:
    """Names that are read, and words in strings that may be names."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Name) and not isinstance(child.ctx, ast.Store):
            yield child.id
        elif isinstance(child, ast.Attribute):
            yield child.attr
        elif isinstance(child, ast.keyword) and child.arg:
            yield child.arg
        elif isinstance(child, ast.Constant) and isinstance(child.value, str) and len(child.value) < 60:
            yield from re.findall(r"\w+", child.value)
        if not is_list_of_names(child):
            yield from uses(child)


def test_nothing_is_there_for_tests_alone() -> None:
    used = Counter(name for tree in modules().values() for name in uses(tree))
    unused = {
        f"{module}: {name}"
        for module, tree in modules().items()
        for name in definitions(tree)
        if not used[name] and not name.startswith("__") and name not in CALLED_BY_OTHERS
    }
    assert unused == set()


def test_what_is_called_by_others_is_there() -> None:
    assert {name for tree in modules().values() for name in definitions(tree)} >= CALLED_BY_OTHERS


def test_the_database_layer_has_types_for_its_objects() -> None:
    texts = [path.read_text() for path in (PACKAGE / "db").rglob("*.py")]
    without_imports = [re.sub(r"^\s*(?:from|import) .*$", "", text, flags=re.MULTILINE) for text in texts]
    lines = sum(text.count("\n") for text in texts)
    assert sum(len(re.findall(r"\bAny\b", text)) for text in without_imports) <= lines * MOST_ANY / 100


def test_a_connections_phase_has_one_door() -> None:
    """`Phased.enter`, and what is written out for kept requests, which looks allowed moves up in the same table."""
    written = {
        f"{path.name}: {line.strip()}"
        for path in (PACKAGE / "http").rglob("*.py")
        for line in path.read_text().splitlines()
        if re.match(r"\s*(?:self|connection)\.phase = ", line) and "TO" not in line
    }
    assert written == {"phases.py: self.phase = ConnectionPhase.FRESH", "idle.py: self.phase = RUNNING"}


def test_a_permit_and_a_deadline_have_one_door_each() -> None:
    """A connection has its permit by `ConcurrencyLimit`, and its deadline by `Phased`; it begins without a permit.

    One of the four moves of a permit is written out, where each request makes it.
    """
    changes = {
        f"{path.stem}: {' '.join(line.split())}"
        for path in (PACKAGE / "http").rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"\b(?:has_permit|taken|deadline) (?:[-+|]?=|:=) ", line)
    }
    doors = ("concurrency: ", "phases: self.deadline = ")
    assert {change for change in changes if not change.startswith(doors)} == {
        "idle: self.has_permit = False",
        "connection: concurrency.taken += 1",
        "connection: self.has_permit = True",
    }
    assert len(changes) > len(doors)


def test_what_is_covered_is_there() -> None:
    """A module that has moved would not be measured any more, and no limit would tell."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]["run"]
    assert len(options["include"]) > 20
    assert [path for path in options["include"] if "*" not in path and not Path(ROOT, path).exists()] == []


#: What a debugger and a failed assertion show.
SHOWN = {
    "djworker.arbiter.child": {"Child"},
    "djworker.arbiter.handles": {"MoldHandle", "WorkerHandle"},
    "djworker.db.lease.lease": {"Lease"},
    "djworker.db.lease.leased_pool": {"LeasedPool"},
    "djworker.db.lease.raw_connection": {"LeasedConnection"},
    "djworker.db.pool.pool": {"Pool"},
    "djworker.db.pool.queue": {"Waiter"},
    "djworker.db.pool.slots": {"Slot"},
    "djworker.http.connection": {"Connection"},
    "djworker.http.server": {"Server"},
}


def shows_itself(node: ast.ClassDef) -> bool:
    """Whether it says what it is, by itself or as a dataclass."""
    of_its_own = any(isinstance(inside, ast.FunctionDef) and inside.name == "__repr__" for inside in node.body)
    return of_its_own or any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def test_what_a_debugger_shows_says_what_it_is() -> None:
    for module, names in SHOWN.items():
        classes = [node for node in modules()[module].body if isinstance(node, ast.ClassDef) and shows_itself(node)]
        assert names <= {node.name for node in classes}, module


#: Two meanings, which have the same value today.
OF_TWO_MEANINGS = {"'127.0.0.1'", "'djworker'"}


def shared_values(tree: ast.Module) -> Iterator[str]:
    """Texts and patterns to which a module gives a name: with numbers, which are often the same by chance, none would agree."""
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        is_text = isinstance(value, ast.Constant) and isinstance(value.value, str | bytes) and len(value.value) > 2
        is_pattern = isinstance(value, ast.Call) and ast.unparse(value.func) in {"re.compile", "struct.Struct"}
        if value is not None and (is_text or is_pattern):
            yield ast.unparse(value)


def test_no_two_modules_have_a_text_or_a_pattern_of_their_own_that_is_the_same() -> None:
    found: dict[str, set[str]] = {}
    for module, tree in modules().items():
        for value in shared_values(tree):
            found.setdefault(value, set()).add(module)
    assert len(found) > 200
    assert {value: where for value, where in found.items() if len(where) > 1 and value not in OF_TWO_MEANINGS} == {}

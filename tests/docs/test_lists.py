"""Lists of the documentation that must be whole: events with what to do, changes of others' code, words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from djworker.conf.table import OPTIONS
from tests.docs.blocks import ROOT, name_of, pages

PACKAGE = ROOT / "djworker"
#: What the log tells of when all is well. Every other event has its entry in troubleshooting.
ORDINARY = {
    *(
        "arbiter_started",
        "project_loaded",
        "listening",
        "status_listening",
        "project_loaded",
        "log_level",
        "operator_asked",
        *("canary_started", "canary_passed"),
        "environment_kept",
        "processes_ended",
        "config_adopted",
        "scaled",
        "logs_reopened",
        "reexec",
        "stop_delayed",
    ),
    *("orphan_reaped", "stopping", "stopped", "mold_booting", "mold_ready", "mold_gone", "deployment_checks"),
    *("spare_ready", "threads_ended", "template_skipped", "check_passed", "worker_spawned", "worker_ready"),
    *("worker_retired", "recycle_wanted", "reload_started", "reload_queued", "reload_done", "files_changed", "stacks"),
    *("request_refused", "pool_recovered"),
}
LOUD = {"WARNING", "ERROR", "CRITICAL", "warning", "error"}
EVENT = re.compile(r"[a-z]+(?:_[a-z]+)+")
WORDS = (
    *("lease", "pin", "replay", "sticky", "mold", "generation", "slot", "surge", "probation", "drain", "retire"),
    *("recycle", "waiter", "circuit", "budget"),
)


def text_of(page: str) -> str:
    return (ROOT / "docs" / page).read_text()


@cache
def sources() -> tuple[tuple[Path, ast.Module], ...]:
    """Every module of the package."""
    return tuple((path, ast.parse(path.read_text())) for path in sorted(PACKAGE.rglob("*.py")))


def in_code(text: str) -> set[str]:
    """Event names between backticks."""
    return set(re.findall(r"`([a-z_]+)`", text))


def documented() -> set[str]:
    """The events of the reference."""
    rows = [line for line in text_of("reference/events.md").splitlines() if line.startswith("| `")]
    return {name for row in rows for name in in_code(row.split("|")[1])}


def explained() -> set[str]:
    """The terms of the page on troubleshooting."""
    terms = re.findall(r"^(`.*)\n: ", text_of("howto/troubleshooting.md"), re.MULTILINE)
    return {name for term in terms for name in in_code(term)}


def loud() -> Iterator[str]:
    """Events that are told as a warning or an error, as far as one call says both."""
    for _, tree in sources():
        for call in ast.walk(tree):
            if isinstance(call, ast.Call):
                texts = [item.value for item in call.args if isinstance(item, ast.Constant)]
                levels = {item.attr for item in call.args if isinstance(item, ast.Attribute)} | set(map(str, texts))
                names = [text for text in texts if isinstance(text, str) and EVENT.fullmatch(text)]
                if levels & LOUD:
                    yield from names[:1]


def test_each_warning_and_error_says_what_to_do() -> None:
    assert documented() - explained() == ORDINARY & documented(), "an event is new: explain it, or call it ordinary"
    assert explained() <= documented()
    found = set(loud()) & documented()
    assert len(found) > 25  # or they are told in other ways now
    assert not found & ORDINARY


#: Events whose text is another's: Django's, Python's, that of a check with its id, or of the question that was asked.
UNWORDED = {"config_error", "config_warning", "check", "python_warning", "scaling_held", "probe_failed"}
UNWORDED |= {"message_refused", "reexec_failed"}
#: In the words of the page, what a reader's own line has in its place.
EXAMPLES = re.compile(r"\d[\d.]*|…|/\w+/|\bGET\b|\bSIG\w+|\(\w+:\w+\)|, ")


def test_the_words_to_look_for_in_a_text_log_are_those_of_the_log() -> None:
    terms = dict(
        re.findall(r"^(`.*`(?: as a warning)?)(?: — \*(.*)\*)?\n: ", text_of("howto/troubleshooting.md"), re.MULTILINE)
    )
    assert {name for term, words in terms.items() if not words for name in in_code(term)} == UNWORDED
    said = "\n".join(text for _, tree in sources() for text in texts_in(tree))
    terms.pop("`hub_stalled`")  # its text is put together of parts: the tests of stalls have it as a whole
    fragments = {part.strip() for words in terms.values() for part in EXAMPLES.split(words) if len(part.strip()) > 3}
    assert len(fragments) > 50
    assert {part for part in fragments if part not in said} == set()


def texts_in(tree: ast.Module) -> Iterator[str]:
    """All but docstrings."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_the_options_that_only_a_restart_adopts_are_named() -> None:
    (sentence,) = re.findall(r"for (`bind`.*?) the log says", text_of("explanation/reload.md"))
    assert in_code(sentence) == {name for name, option in OPTIONS.items() if not option.spec.reloadable}


# -- changes of others' code


def foreign_targets() -> Iterator[tuple[str, str]]:
    """Each assignment to an attribute of what is imported from elsewhere: the module of ours, and the target's last name."""
    for path, tree in sources():
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        names = dict(imported(tree))
        for statement in ast.walk(tree):
            for target in targets_of(statement):
                base: ast.expr = target
                while isinstance(base, ast.Attribute | ast.Subscript):
                    base = base.value
                if isinstance(base, ast.Name) and names.get(base.id, "djworker").partition(".")[0] != "djworker":
                    yield module, target.attr


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Import):
            yield from (((alias.asname or alias.name).partition(".")[0], alias.name) for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            yield from ((alias.asname or alias.name, f"{statement.module}.{alias.name}") for alias in statement.names)


def targets_of(statement: ast.AST) -> Iterator[ast.Attribute]:
    found: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        found = [part for target in statement.targets for part in getattr(target, "elts", [target])]
    elif isinstance(statement, ast.AugAssign | ast.AnnAssign):
        found = [statement.target]
    yield from (target for target in found if isinstance(target, ast.Attribute))


def modules_that_set_by_name() -> set[str]:
    """Modules with a ``setattr``, or a change of ``vars()``, on a module, as far as its name tells."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path, tree in sources()
        for node in ast.walk(tree)
        if sets_by_name(node)
    }


def sets_by_name(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setattr":
        target = ast.unparse(node.args[0])
        return target in {"module", "asyncio"} or "import_module" in target
    if isinstance(node, ast.Assign):
        return any(re.match(r"vars\(.*import_module", ast.unparse(target)) for target in node.targets)
    return False


def rows() -> list[list[str]]:
    """The cells of both tables."""
    lines = [line for line in text_of("explanation/patches.md").splitlines() if line.startswith("| ")]
    return [cells for line in lines if (cells := [cell.strip() for cell in line.strip("|").split("|")])[1] != "by"]


def test_every_change_of_others_code_is_in_the_table() -> None:
    by: dict[str, str] = {}
    for cells in rows():
        for module in re.findall(r"`(djworker[\w.]*)`", cells[1]):
            by[module] = f"{by.get(module, '')} {cells[0]}"
    missing = [
        (module, name) for module, name in foreign_targets() if not re.search(rf"\b{name}\b", by.get(module, ""))
    ]
    assert {(module, name) for module, name in missing if (module, name) not in NO_PATCHES} == set()
    assert modules_that_set_by_name() <= set(by)


#: Assignments to objects that are the caller's own, or made for us: nothing of others' code is changed.
NO_PATCHES: set[tuple[str, str]] = {("djworker.mold.patches.multiprocess", "__defaults__")}


def test_every_change_in_the_table_is_there_and_has_a_reason_and_a_test() -> None:
    assert len(rows()) > 15
    for what, by, why, test, *_ in rows():
        for module in re.findall(r"`(djworker[\w.]*)`", by):
            path = ROOT / Path(*module.split("."))
            assert path.with_suffix(".py").exists() or (path / "__init__.py").exists(), by
            source = path.with_suffix(".py").read_text()
        names = {name.rpartition(".")[2].removesuffix("()") for name in re.findall(r"`([\w.()]+)`", what)}
        assert any(name in source for name in names) or not names, what
        assert why
        for name in re.findall(r"`(tests/[\w/]+\.py)`", test):
            assert (ROOT / name).exists(), name
        assert "`tests/" in test, what
    assert all(cells[4] for cells in rows() if len(cells) > 4), "how to do without it"


# -- words, links and paths


def paths_in(text: str) -> set[str]:
    """What stands as a path of this repository: with a folder, and a file or a folder at its end."""
    found = re.findall(r"`((?:djworker|tests|docs|conf|db|arbiter|\.ci)/[\w./-]*)`", text)
    return {path for path in found if "*" not in path}


def test_the_paths_that_a_contributor_is_sent_to_are_there() -> None:
    text = text_of("development.md") + (ROOT / "CONTRIBUTING.md").read_text()
    named = paths_in(text)
    assert len(named) > 20
    assert [path for path in sorted(named) if not (ROOT / path).exists() and not (PACKAGE / path).exists()] == []


def test_the_glossary_has_the_words_that_the_log_uses() -> None:
    terms = re.findall(r"^(\w[\w ]*)\n  ", text_of("glossary.md"), re.MULTILINE)
    assert [word for word in WORDS if word not in terms] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_of_the_front_pages_lead_somewhere(name: str) -> None:
    (path,) = [path for path in pages() if name_of(path) == name]
    links = [link for link in re.findall(r"\]\(([^)#]+)", path.read_text()) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []

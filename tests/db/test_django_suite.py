"""A small part of Django's own suite, and the list of what may differ: `make test-django` runs all of it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from django.utils.version import get_version_tuple

from tests.db import django_suite
from tests.db.django_runs import MODES, TEARDOWN, Outcome
from tests.db.django_suite import LABELS, Report, Run, compare, expected, explanation, note, recorded

OK = """\
..s.
----------------------------------------------------------------------
Ran 4 tests in 0.250s

OK (skipped=1)
Destroying test database for alias 'default'...
"""
FAILED = """\
FAIL: test_one (transactions.tests.AtomicTests.test_one) (database='default')
Traceback (most recent call last):
AssertionError
ERROR: setUpClass (transactions.tests.Others)
Traceback (most recent call last):
KeyError: 1
Ran 3 tests in 1.5s

FAILED (failures=1, errors=1)
"""
COUNTS = {"skipped": 1, "stock_failed": 0, "differ": []}


def a_run(**differences: object) -> Run:
    return Run(**{"database": "mysql", "mode": "request", "label": "delete", "ran": 4, **COUNTS, **differences})


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "database, mode, labels",
    [
        ("postgresql", "transaction", ["transactions", "transaction_hooks"]),
        ("mysql", "request", ["backends"]),
        ("sqlite3", "file", ["transactions"]),
    ],
)
def test_a_part_of_djangos_suite_passes_as_on_its_own_engine(database: str, mode: str, labels: list[str]) -> None:
    report = Report()
    compare(database, mode, labels, report)
    assert report.unexpected == []
    assert [run.label for run in report.runs] == labels
    assert all(run.ran > run.skipped for run in report.runs)


def test_the_end_of_a_run_is_read() -> None:
    assert Outcome.read("delete", OK) == Outcome(4, 1, 0.25, frozenset())
    assert Outcome.from_json(Outcome.read("transactions", FAILED).as_json()) == Outcome(
        3, 0, 1.5, frozenset({"transactions.tests.AtomicTests.test_one", "transactions.tests.Others"})
    )
    assert Outcome.read("delete", f"{OK}Traceback (most recent call last):\n").failed == {f"delete: {TEARDOWN}"}
    with pytest.raises(ValueError, match="did not run"):
        Outcome.read("delete", "ImportError: no such module\n")


def test_what_fails_on_ours_alone_is_told_and_only_the_list_excuses_it() -> None:
    listed = expected()[0]["name"].replace("*", "test_health_checks_enabled")
    report = Report()
    note(
        a_run(differ=[listed, "delete.tests.New"]), Outcome(4, 1, 1, frozenset()), Outcome(4, 1, 1, frozenset()), report
    )
    assert report.unexpected == ["mysql request delete: delete.tests.New: NEW"]
    assert report.explained == [f"mysql request delete: {listed}: {explanation(listed, 'mysql', 'request')}"]


def test_a_test_that_one_engine_skips_is_told() -> None:
    report = Report()
    note(a_run(), Outcome(5, 1, 1, frozenset()), Outcome(4, 2, 1, frozenset()), report)
    assert report.unexpected == [
        "mysql request delete: ran 4 tests, stock 5",
        "mysql request delete: skipped 2 tests, stock 1",
    ]


def test_the_record_is_of_every_label_on_every_engine() -> None:
    everything = [(database, mode, label) for database, modes in MODES.items() for mode in modes for label in LABELS]
    assert [(run.database, run.mode, run.label) for run in recorded()] == everything


def test_what_differed_in_the_record_is_explained_and_nothing_else_is() -> None:
    differ = {(test, run.database, run.mode) for run in recorded() for test in run.differ}
    assert [where for where in sorted(differ) if not explanation(*where)] == []
    newest = max(get_version_tuple(run.django) for run in recorded())
    for row in expected():
        if get_version_tuple(row.get("since", "0.0")) > newest:
            continue  # nothing is known of it
        for database in row["databases"]:
            for mode in row.get("modes", MODES[database]):
                assert any(fnmatchcase(test, row["name"]) for test, *where in differ if where == [database, mode]), row


def test_a_new_run_takes_the_place_of_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_suite, "RECORD", tmp_path / "record.json")
    for run in (a_run(), a_run(label="backends", database="sqlite3", mode="file"), a_run(ran=7)):
        django_suite.record(run)
    assert [(run.database, run.ran) for run in recorded()] == [("mysql", 7), ("sqlite3", 4)]

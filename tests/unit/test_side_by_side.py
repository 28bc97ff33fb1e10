"""Which tests are handed out together, and to whom next."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.side_by_side import next_unit, sendable, starts_trees, unit_of

ROOT = Path(__file__).resolve().parents[2]
TREE = "tests/processes/test_stop.py::test_idle_connections_do_not_delay_a_reload"
UNIT = "tests/unit/arbiter/test_fleet.py"
SLOW = "tests/contracts/test_wheel.py"


@pytest.mark.parametrize("test", [TREE, "tests/db/faults/test_worker_ends.py::test_it[postgres::1]"])
def test_each_test_with_a_process_tree_is_handed_out_by_itself(test: str) -> None:
    assert starts_trees(test)
    assert unit_of(test) == test


def test_the_tests_of_any_other_module_stay_together() -> None:
    assert unit_of(f"{UNIT}::test_one") == unit_of(f"{UNIT}::TestTwo::test_it[a::b]") == UNIT


def test_tests_that_share_a_process_tree_stay_together() -> None:
    """Else each process of the run would start that tree again."""
    module = "tests/processes/test_control.py"
    assert starts_trees(f"{module}::test_one")
    assert unit_of(f"{module}::test_one") == unit_of(f"{module}::test_two") == module
    assert next_unit([TREE, module], trees=True) == module, "the longer one first"


def test_every_module_of_process_tests_is_known_as_such() -> None:
    modules = {f"{path.relative_to(ROOT)}" for path in (ROOT / "tests" / "processes").glob("test_*.py")}
    assert modules
    assert {module for module in modules if not starts_trees(module)} == set()


def test_a_process_takes_its_own_kind_and_helps_when_there_is_none() -> None:
    assert next_unit([UNIT, TREE], trees=True) == TREE
    assert next_unit([TREE, UNIT], trees=False) == UNIT
    assert next_unit([UNIT], trees=True) == UNIT
    assert next_unit([TREE], trees=False) == TREE


def test_a_module_with_a_slow_test_is_begun_first() -> None:
    assert next_unit([UNIT, "tests/unit/arbiter/test_loop.py", SLOW], trees=False) == SLOW
    assert next_unit([UNIT, "tests/unit/arbiter/test_loop.py"], trees=False) == UNIT


def test_half_a_character_in_a_log_record_ends_no_process(caplog: pytest.LogCaptureFixture) -> None:
    """Run side by side, this test passes only where its report can be sent."""
    with caplog.at_level(logging.INFO):
        logging.getLogger("tests").info("half \ud800 a character")
    assert sendable("half \ud800") == "half \\ud800"

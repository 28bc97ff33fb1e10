"""How tests are handed to the processes that run them side by side (`pytest -n auto`, which `make test` uses).

There are two kinds of work:

- A module whose tests start *process trees* (it imports `tests.processes.server`). Such tests wait more than they compute,
  and each has a server of its own: they are handed out one by one. Where the module has a tree for several of its tests (a
  fixture of its scope), they stay together, or each process would start that tree again.
- Any other module. Its tests share what is expensive: patched interpreters, a server, database servers. They stay together.

Half of the processes begin with the first kind and half with the second, so that all the time some wait while others
compute. Who has finished its own kind helps with the other. A new test module falls into its kind by itself.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Generator, Iterable
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

ROOT = Path(__file__).resolve().parents[1]
#: What a module imports that starts process trees.
TREES = "from tests.processes.server import"
#: What a module has whose tests share something that is expensive.
SHARED = 'scope="module"'
#: What a module marks that has a test of many seconds: it is begun early.
SLOW = "pytest.mark.slow"
#: Processes for a core, and in addition: tests that start process trees wait for most of their time.
A_CORE, MORE = 2, 1
#: Processes in all: each that runs database tests has two database servers and some interpreters.
AT_MOST = 8


@functools.cache
def _source(module: str) -> str:
    return (ROOT / module).read_text()


def module_of(nodeid: str) -> str:
    """`tests/unit/test_one.py::test_it[1]`: the first part."""
    return nodeid.partition("::")[0]


def starts_trees(nodeid: str) -> bool:
    """Whether the test, or unit of tests, belongs to a module that starts process trees."""
    return TREES in _source(module_of(nodeid))


def shares(nodeid: str) -> bool:
    """Whether tests of its module share a tree, or something else that is expensive."""
    return SHARED in _source(module_of(nodeid))


def unit_of(nodeid: str) -> str:
    """What it is handed out together with: itself, or its module."""
    return nodeid if starts_trees(nodeid) and not shares(nodeid) else module_of(nodeid)


def next_unit(units: Iterable[str], *, trees: bool) -> str:
    """The unit to hand out next to a process that begins with trees, or not: its own kind first, and long ones first."""
    return min(
        units, key=lambda unit: (starts_trees(unit) != trees, SLOW not in _source(module_of(unit)), "::" in unit)
    )


class SideBySide(LoadScopeScheduling):  # type: ignore[misc]  # xdist publishes no types
    """xdist's scheduler for units, with units of our own, of which the largest come first."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        number = int(node.gateway.id.removeprefix("gw"))
        self.workqueue.move_to_end(next_unit(self.workqueue, trees=number % 2 == 1), last=False)
        super()._assign_work_unit(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> SideBySide:
    """In the place of `--dist`."""
    return SideBySide(config, log)


def sendable(text: str) -> str:
    """The text as execnet can send it: half a character in what a test logs or prints is no reason to end all tests."""
    return text.encode("utf-8", "backslashreplace").decode()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make what was captured sendable."""
    report = yield
    report.sections = [(name, sendable(text)) for name, text in report.sections]
    return report


def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: more than there are cores, as many tests wait."""
    return min(A_CORE * len(os.sched_getaffinity(0)) + MORE, AT_MOST)

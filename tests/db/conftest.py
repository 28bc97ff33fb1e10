"""Tests of the database layer run against real servers."""

from __future__ import annotations

import pytest

from tests.db import patched
from tests.db.fixtures import *  # noqa: F403 - fixtures are found by their names here


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the interpreters of a module behind its last test: all of them together would need gigabytes."""
    if isinstance(item, pytest.Function) and (nextitem is None or nextitem.path != item.path):
        patched.close_interpreters(item.module.__name__)

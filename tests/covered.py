"""Which tests count where coverage is measured (`make test`): those of `tests/unit`.

The modules that are looked at (`[tool.coverage.run]` in `pyproject.toml`) decide, and do nothing else: what no unit test reaches
there, nothing else would show. All other tests of the run go without the cost, and cover nothing by accident.
"""

from __future__ import annotations

from pathlib import Path

import pytest

UNIT = Path(__file__).with_name("unit")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have pytest-cov, where it measures, pause in every other test."""
    if config.pluginmanager.hasplugin("_cov"):
        for item in items:
            if not item.path.is_relative_to(UNIT):
                item.add_marker("no_cover")

"""Which tests count where coverage is measured (`make test`): those of `tests/unit` that are about a layer that is looked at.

The modules of these layers (`[tool.coverage.run]` in `pyproject.toml`) decide, and do nothing else: what no unit test reaches
there, nothing else would show. All other tests of the run go without the cost, and cover nothing by accident.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
UNIT = ROOT / "tests" / "unit"


def covering() -> list[Path]:
    """The folders of the tests that count: `tests/unit/http` for a module of `djworker/http`."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]["run"]
    return sorted({UNIT / Path(module).parts[1] for module in options["include"]})


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have pytest-cov, where it measures, pause in every other test."""
    if config.pluginmanager.hasplugin("_cov"):
        folders = covering()
        for item in items:
            if not any(item.path.is_relative_to(folder) for folder in folders):
                item.add_marker("no_cover")

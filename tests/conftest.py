"""What holds for every test."""

from __future__ import annotations

import compileall
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

PACKAGE = Path(__file__).resolve().parents[1] / "djworker"

# Without pytest-xdist the same tests run one after the other.
pytest_plugins = ["tests.covered", *(["tests.side_by_side"] if find_spec("xdist") else [])]

# Each process of each test would compile all that it imports: a fifth of what a server's start costs.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A developer's own settings must not reach the servers that tests start: each of these changes what djworker does.
for _name in [name for name in os.environ if name.startswith("DJWORKER_")]:
    del os.environ[_name]
for _name in ("DATABASE_URL", "DEBUG", "NOTIFY_SOCKET", "PORT", "SHOP_DEBUG_VIEWS", "WEB_CONCURRENCY"):
    os.environ.pop(_name, None)

# How long an example takes says something of the machine, not of the code; pytest-timeout ends what hangs. On a build
# server the examples are the same each time: its verdict is on the change, not on luck. Everywhere else they are new ones.
settings.register_profile(
    "djworker", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("djworker")


def pytest_configure(config: pytest.Config) -> None:
    """Compile the package once: servers of tests write no bytecode, as their projects are edited within a second."""
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(PACKAGE, quiet=2)

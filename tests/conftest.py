"""What holds for every test."""

from __future__ import annotations

import os
from importlib.util import find_spec

from hypothesis import HealthCheck, settings

# Without pytest-xdist the same tests run one after the other.
pytest_plugins = ["tests.side_by_side"] if find_spec("xdist") else []

# A developer's own settings must not reach the servers that tests start: each of these changes what djworker does.
for _name in [name for name in os.environ if name.startswith("DJWORKER_")]:
    del os.environ[_name]
for _name in ("DATABASE_URL", "DEBUG", "NOTIFY_SOCKET", "PORT", "SHOP_DEBUG_VIEWS", "WEB_CONCURRENCY"):
    os.environ.pop(_name, None)

# How long an example takes says something of the machine, not of the code; pytest-timeout ends what hangs.
settings.register_profile("djworker", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("djworker")

"""What a worker does for its pools at each beat: look over them, and sum them up for the scoreboard."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from djworker.db.lease.registry import pool_watches, tend
from djworker.ipc.scoreboard import Gauge

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES: Final = {
    Gauge.POOL_SIZE: "pool_size",
    Gauge.POOL_AVAILABLE: "pool_available",
    Gauge.POOL_WAITING: "requests_waiting",
    Gauge.POOL_MAX: "pool_max",
}


def beat() -> Mapping[Gauge, int]:
    """The gauges of all pools of this process, summed; logs what their watches find."""
    sums = dict.fromkeys(_NAMES, 0)
    now = time.monotonic()
    tend(now)
    for pool_watch in pool_watches():
        pool_watch.look(now)
        numbers = pool_watch.pool.stats()
        for gauge, name in _NAMES.items():
            sums[gauge] += int(numbers[name])
    return sums

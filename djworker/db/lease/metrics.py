"""What a worker counts of its database pools, in its region of shared memory, at each beat.

Pools count for themselves, from zero, and may end before their worker does; the region goes on for ever. So what was added to a
pool's number since the last look is added to the region's.
"""

from __future__ import annotations

import time
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Final

from djworker.db.lease.registry import leased_pools, pool_watches
from djworker.ipc import metrics
from djworker.ipc.metrics import OTHER, WAIT_BOUNDS, Metric
from djworker.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from djworker.db.lease.protocols import RawConnection
    from djworker.db.observe.pool_watch import PoolWatch
    from djworker.db.pool.pool import Pool
    from djworker.ipc.regions import Writer

__all__ = ["PoolMetrics"]

_GAUGES: Final[Mapping[Metric, str]] = {
    metrics.POOL_SIZE: "pool_size",
    metrics.POOL_IDLE: "pool_available",
    metrics.POOL_LEASED: "pool_leased",
    metrics.POOL_WAITING: "requests_waiting",
    metrics.POOL_MAX: "pool_max",
    metrics.POOL_OUTAGE: "circuit_open",
}
_COUNTERS: Final[Mapping[Metric, str]] = {
    metrics.POOL_ACQUIRES: "requests_num",
    metrics.POOL_REPLAYS: "lease_replays",
    metrics.POOL_TIMEOUTS: "requests_timeouts",
    metrics.POOL_REFUSED: "requests_refused",
    metrics.POOL_UNAVAILABLE: "requests_unavailable",
    metrics.POOL_OUTAGES: "outages_num",
    metrics.POOL_CONNECTS: "connections_num",
    metrics.POOL_CONNECT_ERRORS: "connections_errors",
    metrics.POOL_LOST: "connections_lost",
}
#: Of these, pools that share an alias have one; of all others they have a sum.
_NO_SUMS: Final = frozenset({metrics.POOL_MAX, metrics.POOL_OUTAGE})
#: Series of one kind that a worker tells of: a project with an alias for each tenant has thousands.
_MOST: Final = 200
#: The wait histogram's last word.
_SUM: Final = len(WAIT_BOUNDS) + 1


class PoolMetrics:
    """[worker] The numbers of all pools of this process, and what they were at the last look."""

    def __init__(self) -> None:
        self._seen: weakref.WeakKeyDictionary[Pool[RawConnection], Counter[Hashable]] = weakref.WeakKeyDictionary()

    def __call__(self, writer: Writer) -> None:
        """Take a look, and count."""
        now = time.monotonic()
        stood: dict[tuple[Metric, str], int] = {}
        counters_of = {leased_pool.pool: leased_pool.counters for leased_pool in leased_pools()}
        for pool_watch in pool_watches():
            pool = pool_watch.pool
            pool.look_for_server(now)
            counters = counters_of.get(pool)
            numbers = pool.stats() | (counters.as_dict() if counters is not None else {})
            alias = self._label(writer, metrics.POOL_SIZE, pool.name)
            for metric, name in _GAUGES.items():
                known = stood.get((metric, alias), 0)
                value = int(numbers[name])
                stood[metric, alias] = max(known, value) if metric in _NO_SUMS else known + value
            self._count(writer, pool_watch, alias, numbers, dict(counters.pins) if counters is not None else {})
        for metric in _GAUGES:  # of a pool that has ended there is nothing
            for labels in writer.find(metric):
                stood.setdefault((metric, labels[0]), 0)
        for (metric, alias), value in stood.items():
            writer.set(metric, value, (alias,))

    def _count(
        self,
        writer: Writer,
        pool_watch: PoolWatch[RawConnection],
        alias: str,
        numbers: Mapping[str, float],
        pins: Mapping[str, int],
    ) -> None:
        seen = self._seen.setdefault(pool_watch.pool, Counter())
        for metric, name in _COUNTERS.items():
            writer.add(metric, _new(seen, metric, int(numbers.get(name, 0))), (alias,))
        for reason, count in pins.items():
            if new := _new(seen, reason, count):
                writer.add(metrics.POOL_PINS, new, (alias, self._reason(writer, alias, reason)))
        buckets, seconds = pool_watch.waits.buckets, pool_watch.waits.seconds
        place = writer.word(metrics.POOL_WAIT, (alias,))
        for bucket, count in enumerate(buckets):
            writer.words[place + bucket] += _new(seen, bucket, count)
        writer.words[place + _SUM] += _new(seen, "seconds", int(seconds * NANOSECONDS))
        # Those that had not to wait at all.
        at_once = int(numbers["requests_num"] - numbers["requests_waiting"]) - sum(buckets)
        writer.words[place] += _new(seen, "at once", at_once)

    @staticmethod
    def _label(writer: Writer, metric: Metric, name: str) -> str:
        return name if writer.has(metric, (name,)) or writer.count(metric) < _MOST else OTHER

    @staticmethod
    def _reason(writer: Writer, alias: str, reason: str) -> str:
        known = writer.has(metrics.POOL_PINS, (alias, reason)) or writer.count(metrics.POOL_PINS) < _MOST
        return reason if known else OTHER


def _new(seen: Counter[Hashable], name: Hashable, value: int) -> int:
    """What has come to a number since the last look. It never goes back: what was counted once stays counted."""
    new = value - seen[name]
    if new > 0:
        seen[name] = value
    return max(new, 0)

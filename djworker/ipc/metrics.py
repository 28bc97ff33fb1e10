"""The table of metrics: every number that ``/metrics`` tells, declared once.

From it come the numbers under which shared memory knows a series, the exposition, and the reference page of the documentation.
A metric's number never means anything else: memory that an earlier program has written is read by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from djworker.units import NANOSECONDS

__all__ = ["METRICS", "Metric", "Type"]

#: Seconds. Twice an SLO of 250 ms and half of it, and what is between a cache and a time-out.
LATENCY_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
#: Seconds. A free connection is lent in microseconds, which the first bucket has.
WAIT_BOUNDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0)
#: Seconds. A turn of the hub takes milliseconds; what is above half a second is a stall.
LAG_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


#: The label of further series, once a worker tells of as many of one kind as it may.
OTHER: Final = "(other)"


class Type(Enum):
    """What a metric is, in the words of Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. Sums of several workers are told, or each by itself, with the label ``slot``."""

    number: int
    name: str
    type: Type
    help: str
    labels: tuple[str, ...] = ()
    #: What a stored value is divided by.
    unit: int = 1
    #: Upper bounds of a histogram's buckets, in the metric's unit; one more is without a bound.
    bounds: tuple[float, ...] = ()
    by_slot: bool = False
    #: Whether ``/metrics`` tells it.
    exported: bool = True

    @property
    def words(self) -> int:
        """How many values a series has: of a histogram the buckets, and the sum behind them."""
        return len(self.bounds) + 2 if self.type is Type.HISTOGRAM else 1


def _counter(number: int, name: str, text: str, *labels: str, unit: int = 1, by_slot: bool = False) -> Metric:
    return Metric(number, f"djworker_{name}", Type.COUNTER, text, labels, unit, by_slot=by_slot)


def _gauge(number: int, name: str, text: str, *labels: str, by_slot: bool = False) -> Metric:
    return Metric(number, f"djworker_{name}", Type.GAUGE, text, labels, by_slot=by_slot)


def _histogram(number: int, name: str, text: str, bounds: tuple[float, ...], *labels: str) -> Metric:
    # Values of shared memory are whole.
    return Metric(number, f"djworker_{name}", Type.HISTOGRAM, text, labels, NANOSECONDS, bounds)


# -- requests, told by workers

REQUESTS: Final = _counter(
    1,
    "requests_total",
    "Requests that have ended, by the name of the URL (the view's path if it has no name), method and class of the status"
    " (none: the client left before an answer).",
    "url",
    "method",
    "status",
)
LATENCY: Final = _histogram(
    2,
    "request_duration_seconds",
    "Time from a request's first byte, or from the moment it could have begun, to the end of its answer.",
    LATENCY_BOUNDS,
    "url",
)
REFUSED: Final = _counter(3, "requests_refused_total", "Requests that the server refused itself, by status.", "status")
SWALLOWED: Final = _counter(
    4,
    "metrics_swallowed_total",
    "Requests that are counted under the URL (other), because a worker knows too many names.",
)
RUNNING: Final = _gauge(
    5, "requests_running", "Requests that run; those that wait for their client do not.", by_slot=True
)
QUEUED: Final = _gauge(6, "requests_queued", "Requests that are complete and wait to begin.", by_slot=True)
CONNECTIONS: Final = _gauge(7, "connections", "Clients' connections by state.", "state")
TIMED_OUT: Final = _counter(
    8,
    "requests_timed_out_total",
    "Requests that were ended at their deadline (request_timeout), by the name of the URL.",
    "url",
)

# -- workers, told by themselves

LAG: Final = _histogram(20, "hub_lag_seconds", "How late a hub was, measured ten times a second.", LAG_BOUNDS)
STALLS: Final = _counter(
    21, "hub_stalls_total", "Times that one request kept a hub from turning for `stall_threshold`.", by_slot=True
)
STALLED: Final = _counter(
    22,
    "hub_stalled_seconds_total",
    "Time that hubs did not turn in such stalls, counted at their ends.",
    unit=NANOSECONDS,
    by_slot=True,
)
CPU: Final = _counter(23, "worker_cpu_seconds_total", "Processor time of workers.", unit=NANOSECONDS, by_slot=True)
PSS: Final = _gauge(
    24,
    "worker_pss_bytes",
    "Memory of a worker; a page that several processes share counts in parts (PSS).",
    by_slot=True,
)
RSS: Final = _gauge(25, "worker_rss_bytes", "Resident memory of a worker, shared pages included.", by_slot=True)
#: When the worker's hub last beat, nanoseconds of the monotonic clock: by this a worker that is blocked is known.
BEAT: Final = Metric(26, "djworker_worker_beat", Type.GAUGE, "", by_slot=True, exported=False)

# -- database pools, told by workers

POOL_SIZE: Final = _gauge(40, "pool_size", "Connections that are open or being opened.", "alias")
POOL_IDLE: Final = _gauge(41, "pool_idle", "Connections that are free.", "alias")
POOL_LEASED: Final = _gauge(42, "pool_leased", "Connections that a request holds.", "alias")
POOL_WAITING: Final = _gauge(43, "pool_waiting", "Requests that wait for a connection.", "alias")
POOL_MAX: Final = _gauge(44, "pool_max", "Connections that the pools of all workers may have.", "alias")
POOL_OUTAGE: Final = _gauge(45, "pool_outage", "Workers that cannot connect to the database.", "alias")
POOL_ACQUIRES: Final = _counter(46, "pool_acquires_total", "Connections that were asked for.", "alias")
POOL_WAIT: Final = _histogram(
    47,
    "pool_wait_seconds",
    "Time that requests waited for a connection, with or without success.",
    WAIT_BOUNDS,
    "alias",
)
POOL_PINS: Final = _counter(
    48, "pool_pins_total", "Leases that keep their connection to the end of the request, by reason.", "alias", "reason"
)
POOL_REPLAYS: Final = _counter(
    49, "pool_replays_total", "Session settings that were made again on another connection.", "alias"
)
POOL_TIMEOUTS: Final = _counter(50, "pool_timeouts_total", "Waits that ended without a connection in time.", "alias")
POOL_REFUSED: Final = _counter(51, "pool_refused_total", "Waits that max_waiting refused.", "alias")
POOL_UNAVAILABLE: Final = _counter(52, "pool_unavailable_total", "Waits that an outage ended.", "alias")
POOL_OUTAGES: Final = _counter(
    53, "pool_outages_total", "Outages of the database that a worker has seen begin.", "alias"
)
POOL_CONNECTS: Final = _counter(54, "pool_connects_total", "Attempts to connect.", "alias")
POOL_CONNECT_ERRORS: Final = _counter(55, "pool_connect_errors_total", "Attempts to connect that failed.", "alias")
POOL_LOST: Final = _counter(56, "pool_lost_total", "Connections that were found dead.", "alias")

# -- the service, told by the arbiter

WORKERS: Final = _gauge(80, "workers", "Workers by state.", "state")
WANTED: Final = _gauge(81, "workers_wanted", "Workers that are wanted.")
RESTARTS: Final = _counter(
    82, "worker_restarts_total", "Workers that have ended, and were to be replaced, by cause.", "cause"
)
GENERATION: Final = _gauge(83, "generation", "The generation that new workers are forked from.")
RELOADS: Final = _counter(84, "reloads_total", "Reloads by result.", "result")
PROCESS_PSS: Final = _gauge(85, "process_pss_bytes", "Memory (PSS) of the other processes.", "process")
ARBITER_CPU: Final = _counter(86, "arbiter_cpu_seconds_total", "Processor time of the arbiter.", unit=NANOSECONDS)

METRICS: Final[Mapping[int, Metric]] = {
    item.number: item for item in globals().copy().values() if isinstance(item, Metric)
}

"""What ``/metrics`` says of the memory, read by Prometheus' own parser."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from djworker.ipc import metrics
from djworker.ipc.board import Board, SlotView, Word, WorkerSlotState
from djworker.ipc.regions import Region, Writer
from djworker.status.exposition import render
from djworker.status.memory import MetricsMemory
from djworker.status.pages import Pages
from djworker.units import NANOSECONDS

#: 226 449 when this was written, for 4 136 lines.
MOST_CALLS = 235_000

OPENMETRICS = "application/openmetrics-text;version=1.0.0"


class Service:
    """Two workers or more and an arbiter, as far as their memory goes."""

    def __init__(self, workers: int = 2) -> None:
        self.regions = [Region.create(f"test-{number}") for number in range(2 + workers)]
        self.board = Board(self.regions[0], writable=True)
        self.arbiter = Writer(self.regions[1])
        self.workers = [Writer(region) for region in self.regions[2:]]
        self.memory = MetricsMemory(self.regions[0], self.regions[1])
        for slot, region in enumerate(self.regions[2:]):
            self.memory.add(slot, region)
        self.states(*[WorkerSlotState.READY] * workers)
        self.board[Word.BEAT] = time.monotonic_ns()
        for worker in self.workers:
            worker.set(metrics.BEAT, time.monotonic_ns())

    def states(self, *states: WorkerSlotState) -> None:
        """Say what the arbiter knows of the workers."""
        self.board.tell({slot: SlotView(state, 1, 1) for slot, state in enumerate(states)})

    def told(self, accept: str = "") -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """All samples."""
        body, _type = render(self.memory.series(), accept)
        read = read_openmetrics if accept else read_text
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in read(body.decode())
            for sample in family.samples
        }

    def close(self) -> None:
        """Close what it has opened."""
        for region in self.regions:
            region.close()


@pytest.fixture
def service() -> Iterator[Service]:
    with closing(Service()) as made:
        yield made


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_counters_of_all_slots_are_added_up(service: Service, accept: str) -> None:
    for worker in service.workers:
        worker.add(metrics.REQUESTS, 2, ('a"b\n', "GET", "2xx"))
        worker.add(metrics.CPU, NANOSECONDS // 2)
    service.arbiter.add(metrics.RELOADS, 3, ("done",))
    told = service.told(accept)
    labels = (("method", "GET"), ("status", "2xx"), ("url", 'a"b\n'))
    assert told["djworker_requests_total", labels] == 4
    assert told["djworker_worker_cpu_seconds_total", (("slot", "1"),)] == 0.5
    assert told["djworker_reloads_total", (("result", "done"),)] == 3


def test_a_histogram_is_cumulated(service: Service) -> None:
    for worker in service.workers:
        place = worker.word(metrics.POOL_WAIT, ("default",))
        worker.words[place] += 5
        worker.words[place + len(metrics.WAIT_BOUNDS)] += 1
        worker.words[place + len(metrics.WAIT_BOUNDS) + 1] += 40 * NANOSECONDS
    told = service.told()
    name, alias = "djworker_pool_wait_seconds", ("alias", "default")
    assert told[f"{name}_bucket", (alias, ("le", "0.001"))] == 10
    assert told[f"{name}_bucket", (alias, ("le", "30"))] == 10
    assert told[f"{name}_bucket", (alias, ("le", "+Inf"))] == told[f"{name}_count", (alias,)] == 12
    assert told[f"{name}_sum", (alias,)] == 80


def test_of_a_worker_that_is_gone_the_counters_stay_and_the_gauges_do_not(service: Service) -> None:
    for worker in service.workers:
        worker.add(metrics.SWALLOWED)
        worker.set(metrics.RUNNING, 3)
        worker.set(metrics.POOL_SIZE, 4, ("default",))
    service.states(WorkerSlotState.DRAINING, WorkerSlotState.EMPTY)
    told = service.told()
    assert told["djworker_metrics_swallowed_total", ()] == 2
    assert told["djworker_requests_running", (("slot", "0"),)] == 3
    assert ("djworker_requests_running", (("slot", "1"),)) not in told
    assert told["djworker_pool_size", (("alias", "default"),)] == 4


def test_what_is_not_for_the_outside_is_not_told(service: Service) -> None:
    assert not [name for name, _labels in service.told() if "beat" in name]


def test_every_metric_of_the_table_is_told(service: Service) -> None:
    body, _type = render(service.memory.series(), "")
    for metric in metrics.METRICS.values():
        assert (f"# HELP {metric.name} " in body.decode()) == metric.exported


def ask(service: Service, path: str, query: str = "") -> tuple[int, str]:
    answer = Pages(service.memory)(path, query, {})
    return answer.status.value, answer.body.decode()


def test_health_is_answered_with_a_reason(service: Service) -> None:
    assert ask(service, "/livez") == ask(service, "/readyz") == (200, "ok\n")
    service.workers[1].set(metrics.POOL_OUTAGE, 1, ("reports",))
    assert ask(service, "/readyz") == (503, "no connection to reports\n")
    assert ask(service, "/readyz", "db=0") == (200, "ok\n")
    service.board[Word.STOPPING] = True
    assert ask(service, "/readyz", "db=0") == (503, "stopping\n")
    assert ask(service, "/livez") == (200, "ok\n")
    assert ask(service, "/nothing")[0] == 404


def test_an_outage_of_a_worker_that_is_gone_is_none(service: Service) -> None:
    service.workers[1].set(metrics.POOL_OUTAGE, 1, ("reports",))
    service.states(WorkerSlotState.READY, WorkerSlotState.STARTING)
    assert ask(service, "/readyz") == (200, "ok\n")


def test_its_own_memory_is_told(service: Service) -> None:
    _status, body = ask(service, "/metrics")
    families = {family.name: family for family in read_text(body)}
    told = {sample.labels["process"]: sample.value for sample in families["djworker_process_pss_bytes"].samples}
    assert told["status"] > 1 << 20


def test_many_questions_at_once_cost_as_much_as_one(service: Service) -> None:
    pages = Pages(service.memory)
    asked = SimpleNamespace(times=0)
    series = service.memory.series

    def count() -> object:
        asked.times += 1
        return series()

    service.memory.series = count  # type: ignore[assignment]
    for _ in range(50):
        pages("/metrics", "", {})
    assert asked.times == 1
    pages.begin()
    pages("/metrics", "", {})
    assert asked.times == 2


def test_a_scrape_of_many_urls_and_workers_calls_few_functions() -> None:
    """So that 200 URLs of 8 workers are told within 50 ms of a processor. It took 25 where this was written."""
    with closing(Service(workers=8)) as service:
        for worker in service.workers:
            fill(worker, urls=200)
        pages = Pages(service.memory)
        body = pages("/metrics", "", {}).body
        assert body.count(b"djworker_request_duration_seconds_count{") == 200
        assert calls_of_scrape(pages) <= MOST_CALLS


def calls_of_scrape(pages: Pages) -> int:
    """Of Python's functions and of C's."""
    calls = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    pages.begin()
    sys.setprofile(note)
    try:
        pages("/metrics", "", {})
    finally:
        sys.setprofile(None)
    return calls


def fill(worker: Writer, urls: int) -> None:
    """Count what a worker counts that has served all of these and has used two databases."""
    for number in range(urls):
        url = f"application:a-route-{number}"
        for method, status in (("GET", "2xx"), ("GET", "4xx"), ("POST", "3xx")):
            worker.add(metrics.REQUESTS, number, (url, method, status))
        worker.word(metrics.LATENCY, (url,))
    for alias in ("default", "reports"):
        for metric in metrics.METRICS.values():
            if metric.labels == ("alias",):
                worker.word(metric, (alias,))

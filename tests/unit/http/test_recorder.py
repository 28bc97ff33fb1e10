"""What is counted of a request, and how many series there can be."""

from __future__ import annotations

from typing import Any

import pytest

from djworker.http import recorder
from djworker.http.recorder import MOST_URLS, OTHER, UNMATCHED, URL_NAME, Recorder
from djworker.ipc import metrics
from djworker.ipc.regions import Region, RegionReader, Writer


class Ended:
    """A request that has ended, as far as a recorder looks at it."""

    def __init__(self, url: str | None = "list", method: str = "GET", status: str = "200 OK") -> None:
        self.environ = {} if url is None else {URL_NAME: url}
        self.method = method
        self.status = status


class Counts:
    """A recorder, and what it has written."""

    def __init__(self) -> None:
        self.region = Region.create("test")
        self.again()

    def again(self) -> None:
        """Go on as the slot's next worker."""
        self.recorder = Recorder(Writer(self.region))

    def note(self, *args: Any, lasted: float = 0.0) -> None:
        """A request ends."""
        self.recorder.request(Ended(*args), lasted)  # type: ignore[arg-type]

    def of(self, metric: metrics.Metric) -> dict[tuple[str, ...], list[int]]:
        """The values of all series of a metric."""
        reader = RegionReader(self.region)
        index, values = reader.index(), reader.values()
        return {
            item.labels: list(values[item.first : item.first + item.size]) for item in index if item.metric is metric
        }

    def requests(self) -> dict[tuple[str, ...], int]:
        """The counters of requests."""
        return {labels: values[0] for labels, values in self.of(metrics.REQUESTS).items()}


@pytest.fixture
def counts() -> Counts:
    return Counts()


def test_url_method_and_class_of_the_status_are_counted(counts: Counts) -> None:
    counts.note("shop:list")
    counts.note("shop:list")
    counts.note("shop:list", "POST", "302 Found")
    counts.note(None, "GET", "404 Not Found")
    counts.note("shop:list", "GET", "")
    assert counts.requests() == {
        ("shop:list", "GET", "2xx"): 2,
        ("shop:list", "POST", "3xx"): 1,
        (UNMATCHED, "GET", "4xx"): 1,
        ("shop:list", "GET", "none"): 1,
    }


def test_the_time_it_took_is_in_its_bucket_and_in_the_sum(counts: Counts) -> None:
    counts.note(lasted=0.3)
    counts.note(lasted=100)
    values = counts.of(metrics.LATENCY)[("list",)]
    assert values[metrics.LATENCY_BOUNDS.index(0.5)] == 1
    assert values[len(metrics.LATENCY_BOUNDS)] == 1
    assert values[-1] == pytest.approx(100.3e9)


def test_a_worker_goes_on_where_the_one_before_ended(counts: Counts) -> None:
    for _ in range(3):
        counts.note()
        counts.again()
    assert counts.requests() == {("list", "GET", "2xx"): 3}


def test_what_the_server_refuses_is_counted_twice(counts: Counts) -> None:
    counts.recorder.refused(Ended(None, "", "431"), 0.0)  # type: ignore[arg-type]
    assert counts.of(metrics.REFUSED) == {("431",): [1]}
    assert counts.requests() == {(UNMATCHED, "other", "4xx"): 1}


def test_methods_of_clients_make_no_series(counts: Counts) -> None:
    for number in range(1000):
        counts.note("list", f"M{number}")
    assert counts.requests() == {("list", "other", "2xx"): 1000}
    assert len(counts.recorder._known) == 0


def test_names_above_the_cap_are_one_label_and_are_counted(counts: Counts) -> None:
    for number in range(MOST_URLS + 10):
        counts.note(f"name{number}")
    counts.note(None)
    counts.note("name0")
    counts.again()
    counts.note("another")
    counts.note("name1")
    found = counts.requests()
    assert len({labels[0] for labels in found}) == MOST_URLS + 2
    assert found[OTHER, "GET", "2xx"] == 11
    assert counts.of(metrics.SWALLOWED) == {(): [11]}
    assert found["name0", "GET", "2xx"] == found["name1", "GET", "2xx"] == 2
    assert sum(found.values()) == MOST_URLS + 14
    assert len(counts.recorder._known) <= MOST_URLS + 2


def test_series_above_the_cap_are_counted_without_their_url(counts: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MOST_SERIES", 3)
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "GET"):
        counts.note("list", method)
    assert counts.requests() == {
        ("list", "GET", "2xx"): 2,
        ("list", "POST", "2xx"): 1,
        ("list", "PUT", "2xx"): 1,
        (OTHER, "PATCH", "2xx"): 1,
        (OTHER, "DELETE", "2xx"): 1,
    }
    assert counts.of(metrics.SWALLOWED) == {(): [2]}


def test_those_that_ended_at_their_deadline_are_counted_by_url(counts: Counts) -> None:
    for url in ("shop:list", "shop:list", None):
        counts.recorder.timed_out(Ended(url))  # type: ignore[arg-type]
    assert counts.of(metrics.TIMED_OUT) == {("shop:list",): [2], (UNMATCHED,): [1]}

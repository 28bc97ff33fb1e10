"""What the arbiter notes of its workers: rates between two readings, and the last hour in a ring."""

from __future__ import annotations

import os
from typing import Any

import pytest

from djworker.arbiter.history import KEPT, SIZE, History, Moment
from djworker.arbiter.recent import Count, Recent
from djworker.ipc import shared_memory
from djworker.ipc.latency import BUCKETS


def sample(at: float, **values: Any) -> Moment:
    """Of one moment; everything else is 0."""
    return Moment(**{**dict.fromkeys(Moment._fields, 0.0), "at": at, **values})


def count(requests: int, cpu: float = 0.0, bucket: int = 0) -> Count:
    """What a worker has counted, all of it in one bucket."""
    latencies = [0] * BUCKETS
    latencies[bucket] = requests
    return Count(requests, 0, int(cpu * 1e9), tuple(latencies))


def test_rates_are_those_between_two_readings() -> None:
    recent = Recent()
    recent.read({1: count(100, 5.0)}, 10.0)
    recent.read({1: count(130, 6.0), 2: count(20)}, 12.0)
    told = recent.workers()
    assert (told[1].requests, told[1].cpu) == (15.0, 0.5)
    assert told[2].requests == 10.0, "it was not there before"
    assert recent.total().requests == 25.0
    assert not recent.due(12.9)
    assert recent.due(13.0)


def test_the_first_reading_tells_no_rate() -> None:
    recent = Recent()
    recent.read({1: count(100)}, 10.0)
    assert recent.workers()[1].requests == 0.0
    assert Recent().total().requests == 0.0


def test_what_an_ended_worker_counted_is_told_once() -> None:
    recent = Recent()
    recent.tell({1: count(10)}, 0.0)
    recent.gone(1, count(60))
    recent.gone(2, count(40))  # it came and went in between
    assert recent.tell({3: count(10)}, 10.0).requests == 10.0
    assert recent.tell({3: count(10)}, 20.0).requests == 0.0


def test_quantiles_are_of_the_last_two_intervals() -> None:
    recent = Recent()
    recent.tell({1: count(1000, bucket=50)}, 0.0)
    recent.tell({1: count(1000, bucket=50)}, 10.0)
    latencies = list(count(1000, bucket=50).latencies)
    latencies[10] = 5
    recent.read({1: Count(1005, 0, 0, tuple(latencies))}, 15.0)
    p99 = recent.workers()[1].p99
    assert p99 is not None
    assert p99 < 0.01, "what was before the last two intervals is forgotten"


def test_a_ring_keeps_the_last_hour() -> None:
    history = History()
    for number in range(KEPT + 50):
        history.add(sample(1000.0 + number, p99=None, running=number))
    told = history.columns()
    assert told["at"] == [1000.0 + number for number in range(50, KEPT + 50)]
    assert told["running"][-1] == KEPT + 49
    assert told["p99"] == [None] * KEPT
    assert history.columns(since=1000.0 + KEPT + 47)["at"] == [1000.0 + KEPT + 48, 1000.0 + KEPT + 49]
    assert repr(history) == f"<History of {KEPT} samples>"


def test_the_program_that_follows_finds_the_samples() -> None:
    history = History()
    history.add(sample(1.0, memory=5.0))
    again = History(os.dup(history.fileno()))
    again.add(sample(2.0))
    assert again.columns()["memory"] == [5.0, 0.0]
    history.close()
    again.close()


@pytest.mark.parametrize("size, form", [(SIZE // 2, 1.0), (SIZE, 99.0)])
def test_memory_of_another_form_is_begun_anew(size: int, form: float) -> None:
    fd = shared_memory.create("other", size)
    mapped = shared_memory.mapped(fd, size)
    memoryview(mapped).cast("d")[0] = form
    memoryview(mapped).cast("d")[1] = 3.0
    history = History(fd)
    assert history.columns()["at"] == []
    history.close()

"""How many workers there shall be, by readings that a test makes up."""

from __future__ import annotations

import random

from djworker.arbiter.scaling import COMPLAINT, GROW_AFTER, LOOK, SHRINK_AFTER, Reading, Scaler, SizeVerdict

MIB = 1 << 20
PLENTY = 1 << 40


class Site:
    """Workers that do so much work, and a scaler that looks at them."""

    def __init__(self, least: int = 1, most: int = 4, workers: int | None = None) -> None:
        self.scaler = Scaler(least, most)
        self.workers = workers or least
        self.now = 1000.0
        self.cpu: dict[int, float] = {}
        self.said: list[tuple[float, SizeVerdict]] = []
        self.free = PLENTY

    def run(self, seconds: float, load: float, *, queued: int = 0, late: float = 0.0, ready: int | None = None) -> None:
        """Let time pass. load: processors' time a second that all of them need; a worker has one at the most."""
        for _ in range(int(seconds / LOOK)):
            self.now += LOOK
            ready_now = self.workers if ready is None else ready
            for key in range(ready_now):
                self.cpu[key] = self.cpu.get(key, 0.0) + min(1.0, load / ready_now) * LOOK
            readings = {key: Reading(self.cpu[key], queued, late, 100 * MIB) for key in range(ready_now)}
            verdict = self.scaler.look(readings, self.workers, self.free, self.now)
            if verdict is not None:
                self.said.append((self.now, verdict))
                self.workers = verdict.workers

    def numbers(self) -> list[int]:
        return [verdict.workers for _at, verdict in self.said]


def test_busy_workers_get_company_within_seconds() -> None:
    site = Site()
    site.run(3, load=0.1)
    assert site.said == []
    site.run(GROW_AFTER + 2, load=3.0)
    assert site.numbers() == [2]
    assert site.said[0][1].reason == "workers are busy for 100% of the time"
    site.run(10, load=3.0)
    assert site.workers == 4
    site.run(60, load=9.0)
    assert site.workers == 4  # the most


def test_a_peak_of_a_second_changes_nothing() -> None:
    site = Site(workers=2)
    for _ in range(20):
        site.run(1, load=2.0)
        site.run(3, load=1.0)
    assert site.said == []


def test_a_queue_or_a_late_hub_is_a_reason_too() -> None:
    site = Site()
    site.run(6, load=0.3, queued=5)
    assert site.said[0][1] == SizeVerdict(2, "5.0 requests for each worker wait to begin")
    site = Site()
    site.run(6, load=0.3, late=0.25)
    assert site.said[0][1] == SizeVerdict(2, "hubs are 250 ms late")


def test_a_late_hub_without_work_is_the_machines_affair() -> None:
    site = Site()
    site.run(30, load=0.05, late=0.5)
    assert site.said == []


def test_idle_workers_go_within_a_minute_and_not_at_once() -> None:
    site = Site(workers=4)
    site.run(SHRINK_AFTER - 2, load=0.1)
    assert site.said == []
    site.run(60 - SHRINK_AFTER, load=0.1)
    assert site.numbers() == [3, 2, 1]
    site.run(120, load=0.0)
    assert site.workers == 1  # the least


def test_load_that_stays_does_not_make_the_number_swing() -> None:
    """Whatever the load: once the number fits, it stays."""
    for load in (0.1, 0.5, 0.69, 0.71, 1.0, 1.39, 1.41, 2.0, 2.5, 2.79, 2.81, 3.5):
        site = Site(most=8)
        site.run(120, load=load)
        settled = site.workers
        site.run(600, load=load)
        assert site.workers == settled, load
        assert site.numbers() == sorted(site.numbers()), load


def test_load_that_trembles_does_not_make_the_number_swing() -> None:
    dice = random.Random(1)
    site = Site(most=8)
    for _ in range(900):
        site.run(1, load=dice.uniform(1.2, 2.0))
    assert len(site.said) <= 4, site.numbers()


def test_a_worker_that_is_coming_is_waited_for() -> None:
    site = Site()
    site.run(5, load=3.0)
    assert site.workers == 2
    site.run(20, load=3.0, ready=1)
    assert site.workers == 2


def test_without_memory_for_one_more_there_is_none_and_one_complaint_a_minute() -> None:
    site = Site()
    site.free = 110 * MIB
    site.run(COMPLAINT - 5, load=3.0)
    ((_, verdict),) = site.said
    assert verdict.workers == 1
    assert "memory is short: 110 MiB free, 125 wanted for one more" in verdict.reason
    site.free = PLENTY
    site.run(5, load=3.0)
    assert site.workers >= 2


def test_new_bounds_are_kept_at_once() -> None:
    site = Site(least=2, most=3, workers=6)
    site.run(2, load=1.0)
    assert site.workers == 3
    site = Site(least=2, most=3, workers=1)
    site.run(2, load=1.0)
    assert site.workers == 2


def test_a_pause_in_the_readings_is_no_load() -> None:
    """The machine slept, or the arbiter's program was replaced."""
    site = Site()
    site.run(5, load=0.1)
    site.now += 3600
    site.cpu[0] += 3000
    site.run(1, load=0.1)
    assert site.said == []

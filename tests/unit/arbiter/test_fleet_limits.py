"""What never ends: crash loops of days, storms of signals, servers with hundreds of workers."""

from __future__ import annotations

from djworker.arbiter.commands import Announce, BootMold, ForkWorker
from djworker.arbiter.events import DeadlineReached, MoldBooted, Reload, Scale, Started, WorkerBooted, WorkerGone
from djworker.arbiter.fleet import Fleet
from djworker.arbiter.handles import Policy
from djworker.arbiter.timing import BACKOFF_MOST, PROBATION
from djworker.conf.table import MOST_WORKERS, OPTIONS
from djworker.ipc.scoreboard import SLOTS

POLICY = Policy(workers=1, timeout=30, boot_timeout=60, graceful_timeout=30)


def serving(policy: Policy = POLICY) -> Fleet:
    fleet = Fleet(policy)
    fleet.handle(Started(), 0.0)
    fleet.handle(MoldBooted(1, policy), 1.0)
    for worker_id in list(fleet.processes.workers):
        fleet.handle(WorkerBooted(worker_id), 2.0)
    fleet.handle(DeadlineReached(), 2.0 + PROBATION)
    return fleet


def test_a_crash_loop_may_last_for_weeks() -> None:
    fleet, now = serving(), 10.0
    fleet.handle(WorkerGone(1, 1), now)
    for _ in range(2000):  # 2 ** 1024 is no float any more
        now = fleet.next_deadline()
        fleet.handle(DeadlineReached(), now)
        (worker,) = fleet.processes.starting()
        fleet.handle(WorkerGone(worker.worker_id, 1), now)
    assert fleet.crashes.retry_at == now + BACKOFF_MOST


def test_a_storm_of_ttin_stays_on_the_scoreboard() -> None:
    fleet = serving()
    for _ in range(SLOTS + 1):
        fleet.handle(Scale(+1), 5.0)
    assert fleet.target == MOST_WORKERS
    assert max(worker.slot for worker in fleet.processes.workers.values()) < SLOTS


def test_every_number_of_workers_that_may_be_configured_has_its_slots() -> None:
    maximum = OPTIONS["workers"].spec.maximum
    assert maximum == MOST_WORKERS
    assert SLOTS > MOST_WORKERS


def test_a_full_scoreboard_waits_for_those_who_drain() -> None:
    fleet = serving()
    while fleet.processes.has_slot():
        fleet.processes.new_worker(1, deadline=1e6).drain(1e6)
    assert not [c for c in fleet.handle(Scale(+1), 5.0) if isinstance(c, ForkWorker)]
    last = fleet.processes.last_worker
    slot = fleet.processes.workers[last].slot
    assert fleet.handle(WorkerGone(last, 0), 6.0) == [ForkWorker(last + 1, slot, 1)]


def test_a_reload_is_announced_before_it_may_fail() -> None:
    """Systemd is told RELOADING and then READY; the other way round it would wait for ever."""
    fleet = serving()
    first, second = fleet.handle(Reload(), 5.0)
    assert isinstance(first, Announce)
    assert first.event == "reload_started"
    assert second == BootMold(2)

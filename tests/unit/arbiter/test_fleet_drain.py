"""Workers that leave: they have their grace, and within it their hub must turn."""

from __future__ import annotations

from dataclasses import replace

import pytest

from djworker.arbiter.commands import ForkWorker, KillWorker, RetireWorker
from djworker.arbiter.events import (
    DeadlineReached,
    Heartbeat,
    MoldBooted,
    MoldGone,
    Recycle,
    Reload,
    Started,
    Stop,
    WorkerBooted,
    WorkerGone,
)
from djworker.arbiter.handles import Policy, WorkerState
from djworker.arbiter.timing import KILL_AGAIN, PROBATION, WATCHDOG_MARGIN
from djworker.ipc.contract import GRACE_MARGIN
from tests.unit.arbiter.story import POLICY, Story

HOUR = 3600.0
PATIENT = Policy(2, timeout=30, boot_timeout=60, graceful_timeout=HOUR)


def draining(policy: Policy = PATIENT) -> Story:
    """Two workers that were told to leave, and no mold any more."""
    story = Story.serving(policy)
    story.tell(Stop(fast=False))
    story.tell(MoldGone(1, 0))
    return story


def beat(story: Story, *workers: int) -> None:
    for worker_id in workers:
        assert story.tell(Heartbeat(worker_id, story.now)) == []


def test_a_hub_that_stops_while_it_drains_is_found_by_its_beat() -> None:
    story = draining()
    beat(story, 1, 2)
    assert story.tell(DeadlineReached(), 20) == []
    beat(story, 2)
    assert story.tell(DeadlineReached(), 10 + WATCHDOG_MARGIN) == [KillWorker(1, "timeout")]
    assert story.tell(WorkerGone(1, -9), 1) == []


def test_a_drain_that_turns_has_all_its_grace() -> None:
    story = draining()
    end = story.now + HOUR + GRACE_MARGIN
    while story.now + 10 < end:
        beat(story, 1, 2)
        assert story.tell(DeadlineReached(), 10) == []
    beat(story, 1, 2)
    assert story.tell(DeadlineReached(), end - story.now) == [
        KillWorker(1, "graceful_timeout"),
        KillWorker(2, "graceful_timeout"),
    ]


def test_without_a_timeout_only_the_grace_ends() -> None:
    story = draining(Policy(2, timeout=0, boot_timeout=60, graceful_timeout=HOUR))
    assert story.fleet.next_deadline() == story.now + HOUR + GRACE_MARGIN


def test_what_was_killed_as_it_drained_is_not_killed_at_every_beat() -> None:
    story = draining()
    story.tell(DeadlineReached(), 31)
    beat(story, 1, 2)
    assert story.fleet.next_deadline() == story.now + KILL_AGAIN
    assert story.tell(DeadlineReached(), KILL_AGAIN) == [
        KillWorker(1, "survived SIGKILL"),
        KillWorker(2, "survived SIGKILL"),
    ]


def test_who_still_boots_need_not_beat_when_told_to_leave() -> None:
    """A boot of a minute is nothing odd, a hub that stands still for one is."""
    story = Story(PATIENT)
    story.tell(Started())
    story.tell(MoldBooted(1, PATIENT))
    assert RetireWorker(1, HOUR, empty_backlog=True) in story.tell(Stop(fast=False), 1)
    story.tell(MoldGone(1, 0))
    beat(story, 1, 2)
    assert story.fleet.next_deadline() == story.now + 59
    assert story.tell(DeadlineReached(), 59) == [KillWorker(1, "boot_timeout"), KillWorker(2, "boot_timeout")]


def test_a_fast_stop_brings_the_end_nearer_and_no_beat_takes_it_back() -> None:
    story = draining()
    story.tell(Stop(fast=True), 1)
    beat(story, 1, 2)
    assert story.fleet.next_deadline() == story.now + GRACE_MARGIN


def test_a_fast_stop_gives_no_time_to_who_has_less() -> None:
    story = draining(Policy(2, timeout=0, boot_timeout=60, graceful_timeout=10))
    end = story.now + 10 + GRACE_MARGIN
    story.tell(Stop(fast=True), 11)
    beat(story, 1, 2)
    assert story.fleet.next_deadline() == end


def test_a_suspension_is_no_time_of_the_grace() -> None:
    story = draining()
    assert story.tell(DeadlineReached(), 2 * HOUR) == []
    beat(story, 1, 2)
    assert story.fleet.next_deadline() > story.now


def test_a_blocked_hub_that_was_to_be_recycled_is_no_crash() -> None:
    story = Story.serving(PATIENT)
    story.tell(Recycle(1, "max_requests"))
    story.tell(WorkerBooted(3), 1)
    assert RetireWorker(1, HOUR, empty_backlog=False) in story.tell(DeadlineReached(), PROBATION)
    while KillWorker(1, "timeout") not in story.until_due():
        assert story.fleet.processes.workers[1].state is WorkerState.DRAINING
    assert story.tell(WorkerGone(1, -9)) == []
    assert story.fleet.crashes.failures == 0
    assert "backoff" not in story.events()


DELAYED = replace(POLICY, shutdown_delay=3.0)


def test_a_stop_that_is_put_off_comes_after_its_delay() -> None:
    story = Story.serving(DELAYED)
    assert story.tell(Stop(fast=False)) == []
    assert story.fleet.ending
    assert not story.fleet.stopping
    assert story.tell(DeadlineReached(), 2.9) == []
    assert story.fleet.next_deadline() == pytest.approx(story.now + 0.1)
    assert RetireWorker(1, 30, empty_backlog=True) in story.tell(DeadlineReached(), 0.2)
    assert story.events() == ["stop_delayed", "stopping"]
    assert not story.said[-1].fields["fast"]


def test_a_second_word_ends_the_delay_and_a_third_the_grace() -> None:
    story = Story.serving(DELAYED)
    story.tell(Stop(fast=False))
    assert RetireWorker(1, 30, empty_backlog=True) in story.tell(Stop(fast=False), 1)
    assert RetireWorker(1, 0.0, empty_backlog=True) in story.tell(Stop(fast=False), 1)


def test_a_fast_stop_is_not_put_off() -> None:
    story = Story.serving(DELAYED)
    assert RetireWorker(1, 0.0, empty_backlog=True) in story.tell(Stop(fast=True))
    story = Story.serving(DELAYED)
    story.tell(Stop(fast=False))
    assert RetireWorker(1, 0.0, empty_backlog=True) in story.tell(Stop(fast=True), 1)


def test_during_the_delay_the_dead_are_replaced_and_nothing_else_is_begun() -> None:
    story = Story.serving(DELAYED)
    story.tell(Stop(fast=False))
    assert story.tell(Reload()) == []
    assert story.tell(Recycle(1, "SIGTERM")) == []
    assert ForkWorker(3, 0, 1) in story.tell(WorkerGone(1, -9))


def test_a_mold_that_hears_of_the_stop_too_is_not_missed_during_the_delay() -> None:
    """systemd's KillMode=control-group: to load the project again, and replace workers by it, would be no stop."""
    story = Story.serving(DELAYED)
    story.tell(Stop(fast=False))
    assert story.tell(MoldGone(1, -15)) == []
    assert story.tell(DeadlineReached(), 2.9) == []
    assert story.events() == ["stop_delayed"]


def test_a_server_that_serves_nobody_stops_at_once() -> None:
    story = Story(DELAYED)
    story.tell(Started())
    story.tell(Stop(fast=False))
    assert story.fleet.stopping

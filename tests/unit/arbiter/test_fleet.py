"""The supervisor's decisions, one situation at a time. No process, no clock, no sleep."""

from __future__ import annotations

import pytest

from djworker.arbiter.commands import (
    AdoptConfig,
    BootMold,
    Command,
    Exit,
    ForkWorker,
    KillMold,
    KillWorker,
    QuestionMold,
    RetireWorker,
    StopMold,
)
from djworker.arbiter.events import (
    DeadlineReached,
    Event,
    Heartbeat,
    MoldBooted,
    MoldGone,
    Recycle,
    Reload,
    Scale,
    Started,
    Stop,
    WorkerBooted,
    WorkerClosed,
    WorkerGone,
)
from djworker.arbiter.handles import Policy, WorkerState
from djworker.arbiter.timing import BACKOFF_FIRST, BACKOFF_MOST, KILL_AGAIN, PROBATION, RETRIES, STABLE
from djworker.ipc.contract import STACKS_WITHIN
from tests.unit.arbiter.story import POLICY, Story


def test_reload_brings_new_before_old() -> None:
    story = Story.serving()
    assert story.tell(Reload()) == [BootMold(2)]
    assert story.tell(MoldBooted(2, POLICY), 1) == [AdoptConfig(2), ForkWorker(3, 2, 2)]
    assert story.tell(WorkerBooted(3), 1) == []
    assert story.tell(DeadlineReached(), PROBATION) == [RetireWorker(1, 30, empty_backlog=False), ForkWorker(4, 3, 2)]
    assert story.fleet.processes.workers[1].state is WorkerState.DRAINING
    assert story.tell(WorkerGone(1, 0), 1) == []


def test_a_whole_rollout() -> None:
    story = Story.serving()
    story.tell(Reload())
    story.tell(MoldBooted(2, POLICY), 1)
    story.tell(WorkerBooted(3), 1)
    assert RetireWorker(1, 30, empty_backlog=False) in story.tell(DeadlineReached(), PROBATION)
    story.tell(WorkerGone(1, 0), 1)
    (starting,) = story.fleet.processes.starting()
    story.tell(WorkerBooted(starting.worker_id), 1)
    commands = story.tell(DeadlineReached(), PROBATION)
    assert RetireWorker(2, 30, empty_backlog=False) in commands
    assert StopMold(1) not in commands, "code that dies a little later can still be rolled back"
    later = [story.tell(DeadlineReached(), 1) for _ in range(int(STABLE))]
    assert [StopMold(1)] in later
    assert story.events() == ["reload_started", "reload_done"]
    assert {w.generation for w in story.fleet.processes.ready()} == {2}


def _all_but_closed() -> Story:
    """Both workers of generation 2 serve, and those of generation 1 have not said that they accept no more."""
    story = Story.serving()
    story.obedient = False
    story.tell(Reload())
    story.tell(MoldBooted(2, POLICY), 1)
    for _ in range(POLICY.workers):
        (starting,) = story.fleet.processes.starting()
        story.tell(WorkerBooted(starting.worker_id), 1)
        story.tell(DeadlineReached(), PROBATION)
    assert story.fleet.ready_count() == len(story.fleet.processes.draining()) == POLICY.workers
    return story


@pytest.mark.parametrize("end", [WorkerClosed(2), WorkerGone(2, 0), WorkerGone(2, -9)])
def test_a_reload_is_done_when_no_old_worker_accepts(end: Event) -> None:
    story = _all_but_closed()
    story.tell(WorkerClosed(1))
    assert story.events() == ["reload_started"]
    story.tell(end)
    assert story.events() == ["reload_started", "reload_done"]


def test_a_reload_that_waits_for_an_old_worker_is_done_before_the_next_begins() -> None:
    """The old mold says that a reload is under way. Without it the next one began, and the first was never done."""
    story = _all_but_closed()
    story.tell(WorkerClosed(1))
    assert [story.tell(DeadlineReached(), 1) for _ in range(int(STABLE) + 1)] == [[]] * (int(STABLE) + 1)
    assert story.tell(Reload()) == []
    assert story.tell(WorkerClosed(2)) == [StopMold(1), BootMold(3)]
    assert story.events() == ["reload_started", "reload_queued", "reload_done", "reload_started"]


def test_an_old_worker_that_never_closes_is_killed_and_then_the_reload_is_done() -> None:
    story = _all_but_closed()
    story.tell(WorkerClosed(1))
    while story.fleet.processes.workers[2].state is not WorkerState.KILLED:
        assert story.events() == ["reload_started"]
        story.until_due()
    assert story.events() == ["reload_started", "reload_done"]


def test_code_that_does_not_import_touches_nothing() -> None:
    story = Story.serving()
    story.tell(Reload())
    assert story.tell(MoldGone(2, 3), 1) == []
    assert story.fleet.current == 1
    assert story.fleet.ready_count() == 2
    assert story.events() == ["reload_started", "reload_failed"]
    assert story.tell(Reload(), 1) == [BootMold(3)], "the next good HUP works"


def test_an_import_that_hangs_is_killed_at_its_deadline() -> None:
    story = Story.serving(Policy(2, timeout=0, boot_timeout=60, graceful_timeout=30))
    story.tell(Reload())
    assert story.tell(DeadlineReached(), 59) == []
    assert story.tell(DeadlineReached(), 1) == [QuestionMold(2)], "where does it hang?"
    assert story.tell(DeadlineReached(), STACKS_WITHIN) == [KillMold(2, "boot_timeout")]
    assert story.fleet.next_deadline() == story.now + KILL_AGAIN
    assert story.tell(MoldGone(2, -9)) == []
    assert story.fleet.current == 1


@pytest.mark.parametrize("ready_first", [False, True])
def test_workers_that_die_bring_the_old_mold_back(ready_first: bool) -> None:  # noqa: FBT001
    story = Story.serving()
    story.tell(Reload())
    story.tell(MoldBooted(2, POLICY), 1)
    commands: list[Command] = []
    for _ in range(RETRIES):
        (worker,) = story.fleet.processes.starting()
        if ready_first:
            assert story.tell(WorkerBooted(worker.worker_id), 1) == []
        commands = story.tell(WorkerGone(worker.worker_id, 1), 0.3)
        if story.fleet.current == 2:
            commands = story.until_due()
            while not story.fleet.processes.starting():
                commands = story.until_due()
    assert commands == [AdoptConfig(1), StopMold(2)]
    assert story.fleet.current == 1
    assert story.fleet.ready_count() == 2
    assert story.events()[-2:] == ["rollback", "reload_failed"]


def test_a_crashed_worker_is_replaced_at_once() -> None:
    story = Story.serving()
    assert story.tell(WorkerGone(1, -11)) == [ForkWorker(3, 0, 1)]


def test_a_worker_that_misses_its_beat_is_killed_and_replaced() -> None:
    story = Story.serving()
    story.tell(Heartbeat(2, story.now + 20))
    assert story.tell(DeadlineReached(), 30.9) == []
    assert story.tell(DeadlineReached(), 0.1) == [KillWorker(1, "timeout"), ForkWorker(3, 2, 1)]
    assert story.fleet.processes.workers[1].state is WorkerState.KILLED
    assert story.tell(WorkerGone(1, -9)) == []


def test_a_worker_whose_boot_hangs_is_killed() -> None:
    story = Story(POLICY)
    story.tell(Started())
    story.tell(MoldBooted(1, POLICY), 1)
    assert KillWorker(1, "boot_timeout") in story.tell(DeadlineReached(), 60)


def test_a_crash_loop_backs_off_and_recovers() -> None:
    story = Story.serving()
    delays = []
    story.tell(WorkerGone(1, 1))
    for _ in range(9):
        while not story.fleet.processes.starting():
            story.until_due()
        (worker,) = story.fleet.processes.starting()
        story.tell(WorkerBooted(worker.worker_id), 0.1)
        story.tell(WorkerGone(worker.worker_id, 1), 0.3)
        delays.append(story.said[-1].fields["seconds"])
    assert delays[0] == BACKOFF_FIRST
    assert delays == sorted(delays)
    assert delays[-1] == BACKOFF_MOST
    while not story.fleet.processes.starting():
        story.until_due()
    story.tell(WorkerBooted(story.fleet.processes.starting()[0].worker_id), 0.1)
    for _ in range(3):
        story.until_due()
    assert story.fleet.crashes.failures == 0


def test_a_crash_loop_forks_one_at_a_time() -> None:
    story = Story.serving()
    story.tell(WorkerGone(1, 1))
    story.tell(WorkerGone(2, 1))
    for worker in story.fleet.processes.starting():
        assert story.tell(WorkerGone(worker.worker_id, 1), 0.1) == []
    while not story.fleet.processes.starting():
        story.until_due()
    assert len(story.fleet.processes.starting()) == 1


def test_term_drains_and_exits() -> None:
    story = Story.serving()
    assert story.tell(Stop(fast=False)) == [
        RetireWorker(1, 30, empty_backlog=True),
        RetireWorker(2, 30, empty_backlog=True),
        StopMold(1),
    ]
    assert story.tell(WorkerGone(1, 0), 1) == []
    assert story.tell(MoldGone(1, 0), 1) == []
    assert story.tell(WorkerGone(2, 0), 1) == [Exit(0)]


def test_what_does_not_drain_is_killed() -> None:
    story = Story.serving()
    story.tell(Stop(fast=False))
    story.tell(MoldGone(1, 0))
    assert story.tell(DeadlineReached(), 32) == [KillWorker(1, "graceful_timeout"), KillWorker(2, "graceful_timeout")]


def test_int_cuts_a_graceful_stop_short() -> None:
    story = Story.serving()
    story.tell(Stop(fast=False))
    assert story.tell(Stop(fast=True), 1) == [
        RetireWorker(1, 0, empty_backlog=True),
        RetireWorker(2, 0, empty_backlog=True),
    ]
    assert story.fleet.next_deadline() < story.now + 3


@pytest.mark.parametrize("moment", ["booting", "switched", "retiring"])
def test_term_works_during_a_rollout(moment: str) -> None:
    story = Story.serving()
    story.tell(Reload())
    if moment != "booting":
        story.tell(MoldBooted(2, POLICY), 1)
    if moment == "retiring":
        story.tell(WorkerBooted(3), 1)
        story.tell(DeadlineReached(), PROBATION)
    story.tell(Stop(fast=False))
    for worker in list(story.fleet.processes.workers):
        story.tell(WorkerGone(worker, 0))
    last: list[Command] = []
    for generation in list(story.fleet.processes.molds):
        last = story.tell(MoldGone(generation, 0))
    assert last == [Exit(0)]


def test_three_hups_make_two_reloads() -> None:
    story = Story.serving()
    assert story.tell(Reload()) == [BootMold(2)]
    assert story.tell(Reload()) == []
    assert story.tell(Reload()) == []
    assert story.tell(MoldGone(2, 3)) == [BootMold(3)]
    assert story.tell(MoldGone(3, 3)) == []


def test_first_start_that_cannot_import_exits_3_at_once() -> None:
    story = Story()
    story.tell(Started())
    assert story.tell(MoldGone(1, 3)) == [Exit(3)]
    assert story.events() == []


def test_workers_that_never_boot_exit_3() -> None:
    story = Story(Policy(1, 30, 60, 30))
    story.tell(Started())
    story.tell(MoldBooted(1, story.fleet.policy))
    for _ in range(RETRIES):
        while not story.fleet.processes.starting():
            story.until_due()
        story.tell(WorkerGone(story.fleet.processes.starting()[0].worker_id, 1), 0.1)
    assert story.tell(MoldGone(1, 0)) == [Exit(3)]


def test_scale_up_and_down() -> None:
    story = Story.serving()
    assert story.tell(Scale(+1)) == [ForkWorker(3, 2, 1)]
    story.tell(WorkerBooted(3), 1)
    story.tell(DeadlineReached(), PROBATION)
    assert story.tell(Scale(-1)) == [RetireWorker(3, 30, empty_backlog=False)]
    story.tell(Scale(-1))
    story.tell(Scale(-1))
    assert story.fleet.target == 1, "TTOU never takes the last one"


def test_fewer_workers_after_a_reload() -> None:
    story = Story.serving(Policy(4, 30, 60, 30))
    story.tell(Reload())
    assert ForkWorker(5, 4, 2) in story.tell(MoldBooted(2, Policy(1, 30, 60, 30)), 1)
    story.tell(WorkerBooted(5), 1)
    retired = [c.worker_id for c in story.tell(DeadlineReached(), PROBATION) if isinstance(c, RetireWorker)]
    assert retired == [1, 2, 3, 4]


def test_recycling_replaces_first() -> None:
    story = Story.serving()
    assert story.tell(Recycle(1, "max_requests")) == [ForkWorker(3, 2, 1)]
    assert story.tell(Recycle(2, "max_requests")) == [], "one at a time"
    story.tell(WorkerBooted(3), 1)
    assert RetireWorker(1, 30, empty_backlog=False) in story.tell(DeadlineReached(), PROBATION)


def test_a_lost_mold_is_replaced_and_the_generation_rolls() -> None:
    story = Story.serving()
    assert story.tell(MoldGone(1, -9)) == []
    assert story.tell(DeadlineReached(), BACKOFF_FIRST) == [BootMold(2)]
    assert story.tell(MoldGone(2, 3)) == []
    assert story.fleet.ready_count() == 2
    assert story.tell(DeadlineReached(), BACKOFF_MOST) == [BootMold(3)], (
        "a broken tree is tried again, ever more slowly"
    )


def test_nobody_is_killed_after_a_suspension() -> None:
    story = Story.serving()
    assert story.tell(DeadlineReached(), 3600) == []
    assert story.fleet.ready_count() == 2


def test_a_stop_during_back_off_awaits_only_those_who_leave() -> None:
    story = Story.serving(Policy(2, timeout=0, boot_timeout=60, graceful_timeout=30))
    story.tell(Reload())
    story.tell(MoldBooted(2, POLICY), 1)
    story.tell(WorkerGone(3, 1), 1)
    assert story.fleet.crashes.retry_at > story.now
    story.tell(Stop(fast=False))
    story.tell(MoldGone(1, 0))
    story.tell(MoldGone(2, 0))
    assert story.fleet.next_deadline() == story.now + 32
    assert story.tell(DeadlineReached(), 32) == [KillWorker(1, "graceful_timeout"), KillWorker(2, "graceful_timeout")]


def test_a_mold_that_did_not_boot_in_time_has_failed_before_it_is_dead() -> None:
    story = Story.serving(Policy(2, timeout=0, boot_timeout=60, graceful_timeout=30))
    story.tell(Reload())
    story.tell(DeadlineReached(), 60)
    story.tell(DeadlineReached(), STACKS_WITHIN)
    assert story.events() == ["reload_started", "reload_failed"]
    story.tell(MoldGone(2, -9), 1)
    assert story.events() == ["reload_started", "reload_failed"]
    assert story.tell(Reload(), 1) == [BootMold(3)]


@pytest.mark.parametrize("age", [2.0, 6.0, 9.0])
def test_code_that_dies_after_the_rollout_is_rolled_back_too(age: float) -> None:
    story = Story.serving()
    story.tell(Reload())
    story.tell(MoldBooted(2, POLICY), 1)
    while story.fleet.rollout.begun:
        for starting in story.fleet.processes.starting():
            story.tell(WorkerBooted(starting.worker_id), 0.1)
        story.until_due()
    while story.fleet.current == 2:
        for worker in story.fleet.processes.starting():
            story.tell(WorkerBooted(worker.worker_id), 0.1)
        for worker in list(story.fleet.processes.ready(2)):
            if story.now - worker.ready_at >= age:
                story.tell(WorkerGone(worker.worker_id, 1))
        story.tell(DeadlineReached(), 0.5)
        assert story.now < 200
    assert story.fleet.current == 1
    assert "rollback" in story.events()
    assert "reload_failed" not in story.events(), "that it was done has been told"


def test_a_reload_is_not_held_up_by_a_mold_that_is_only_kept() -> None:
    story = Story.serving()
    story.tell(Reload())
    story.tell(MoldBooted(2, POLICY), 1)
    while story.fleet.rollout.begun:
        for starting in story.fleet.processes.starting():
            story.tell(WorkerBooted(starting.worker_id), 0.1)
        story.until_due()
    assert BootMold(3) in story.tell(Reload())

"""The first start: what is being started gets its chance, whatever is asked for meanwhile; then there is an end."""

from __future__ import annotations

import pytest

from djworker.arbiter.commands import (
    AdoptConfig,
    BootMold,
    Exit,
    ForkWorker,
    KillMold,
    QuestionMold,
    RetireWorker,
    StopMold,
)
from djworker.arbiter.events import (
    DeadlineReached,
    MoldBooted,
    MoldGone,
    Reload,
    Started,
    Stop,
    WorkerBooted,
    WorkerGone,
)
from djworker.arbiter.handles import Policy
from djworker.arbiter.timing import RETRIES
from djworker.ipc.contract import STACKS_WITHIN
from tests.unit.arbiter.story import POLICY, Story

ONE = Policy(1, timeout=30, boot_timeout=60, graceful_timeout=30)


def started(policy: Policy = POLICY) -> Story:
    story = Story(policy)
    assert story.tell(Started()) == [BootMold(1)]
    return story


def fail_until_patience_is_over(story: Story) -> list[object]:
    """Each worker dies as it boots; what the fleet does after the last one."""
    commands: list[object] = []
    for _ in range(RETRIES):
        while not story.fleet.processes.starting():
            story.until_due()
        commands = [*story.tell(WorkerGone(story.fleet.processes.starting()[0].worker_id, 1), 0.1)]
    return commands


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("moment", ["mold boots", "workers boot"])
def test_a_reload_waits_for_the_first_worker(moment: str, times: int) -> None:
    story = started()
    if moment == "workers boot":
        story.tell(MoldBooted(1, POLICY), 1)
    for _ in range(times):
        assert story.tell(Reload(), 0.1) == []
    if moment == "mold boots":
        assert story.tell(MoldBooted(1, POLICY), 1) == [AdoptConfig(1), ForkWorker(1, 0, 1), ForkWorker(2, 1, 1)]
    assert story.tell(WorkerBooted(1), 1) == [BootMold(2)]
    assert story.tell(WorkerBooted(2), 1) == [], "however often it was asked for, it comes once"
    assert story.events() == ["reload_queued"] * times + ["reload_started"]


def test_a_reload_in_the_first_start_that_fails_ends_nothing() -> None:
    story = started()
    story.tell(Reload())
    story.tell(MoldBooted(1, POLICY), 1)
    story.tell(WorkerBooted(1), 1)
    assert story.tell(MoldGone(2, 3), 0.1) == []
    story.tell(WorkerBooted(2), 1)
    assert story.fleet.ready_count() == 2
    assert story.events() == ["reload_queued", "reload_started", "reload_failed"]


def test_code_that_was_mended_during_the_first_start_is_tried() -> None:
    story = started()
    story.tell(Reload())
    assert story.tell(MoldGone(1, 3), 1) == [BootMold(2)]
    assert story.tell(MoldGone(2, 3), 1) == [Exit(3)], "and that was all there was to try"


def test_an_import_that_hangs_in_the_first_start_makes_room_for_mended_code() -> None:
    story = started(Policy(2, timeout=0, boot_timeout=60, graceful_timeout=30))
    story.tell(Reload())
    assert story.tell(DeadlineReached(), 60) == [QuestionMold(1)]
    assert story.tell(DeadlineReached(), STACKS_WITHIN) == [KillMold(1, "boot_timeout"), BootMold(2)]
    assert story.tell(MoldGone(1, -9), 1) == []
    assert story.tell(MoldBooted(2, POLICY), 1) == [AdoptConfig(2), ForkWorker(1, 0, 2), ForkWorker(2, 1, 2)]


def test_workers_that_do_not_boot_make_room_for_mended_code() -> None:
    story = started(ONE)
    story.tell(MoldBooted(1, ONE), 1)
    story.tell(Reload())
    assert fail_until_patience_is_over(story) == [BootMold(2)]
    assert story.tell(MoldBooted(2, ONE), 0.1) == [AdoptConfig(2), ForkWorker(RETRIES + 1, 0, 2)]
    assert story.tell(WorkerBooted(RETRIES + 1), 1) == []
    assert not story.fleet.stopping


def test_mended_code_that_does_not_boot_either_is_the_end() -> None:
    story = started(ONE)
    story.tell(MoldBooted(1, ONE), 1)
    story.tell(Reload())
    fail_until_patience_is_over(story)
    assert story.tell(MoldGone(2, 3), 0.1) == [StopMold(1)]
    assert story.tell(MoldGone(1, 0), 0.1) == [Exit(3)]


def test_mended_code_whose_workers_do_not_boot_gives_the_first_one_another_chance() -> None:
    story = started(ONE)
    story.tell(MoldBooted(1, ONE), 1)
    story.tell(Reload())
    fail_until_patience_is_over(story)
    story.tell(MoldBooted(2, ONE), 0.1)
    assert fail_until_patience_is_over(story)[:2] == [AdoptConfig(1), StopMold(2)]
    assert fail_until_patience_is_over(story) == [StopMold(1)]
    assert story.fleet.stopping


def test_a_worker_that_still_boots_is_awaited() -> None:
    """Three have died; the fourth may be the one that serves."""
    story = started(Policy(4, 30, 60, 30))
    story.tell(MoldBooted(1, story.fleet.policy), 1)
    for worker_id in (1, 2, 3):
        assert story.tell(WorkerGone(worker_id, 1), 0.1) == []
    story.tell(WorkerBooted(4), 1)
    assert story.fleet.ready_count() == 1
    assert not story.fleet.stopping


def test_a_mold_that_is_lost_while_the_first_workers_boot_ends_nothing() -> None:
    story = started()
    story.tell(MoldBooted(1, POLICY), 1)
    assert story.tell(MoldGone(1, -9), 0.1) == []
    assert BootMold(2) in story.until_due()
    assert story.tell(MoldGone(2, 3), 0.1) == []
    story.tell(WorkerBooted(1), 1)
    assert story.fleet.ready_count() == 1


def test_a_queued_reload_does_not_hold_a_stop_up() -> None:
    story = started()
    story.tell(Reload())
    assert story.tell(Stop(fast=False)) == [KillMold(1, "stopping")]
    assert story.tell(MoldGone(1, -9)) == [Exit(0)]


def test_workers_of_replaced_code_that_still_boot_are_not_awaited() -> None:
    story = started()
    story.tell(MoldBooted(1, POLICY), 1)
    story.tell(Reload())
    story.tell(WorkerBooted(1), 1)
    assert RetireWorker(2, 0.0, empty_backlog=False) in story.tell(MoldBooted(2, POLICY), 1)

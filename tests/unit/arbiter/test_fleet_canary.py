"""The first worker of a new generation is watched beside the old ones, and taken back where it is worse."""

from __future__ import annotations

from dataclasses import replace

import pytest

from djworker.arbiter.canary import Canary, Sample
from djworker.arbiter.commands import ForkWorker, RetireWorker
from djworker.arbiter.events import MoldBooted, Reload, Sampled, WorkerBooted, WorkerGone
from tests.unit.arbiter.story import POLICY, Story

WATCHED = replace(POLICY, canary=10.0)
QUIET = Sample(100, 0, 0)


def watched() -> Story:
    """Workers 1 and 2 are of generation 1; worker 3, of generation 2, has just become ready."""
    story = Story.serving(WATCHED)
    story.tell(Reload())
    assert ForkWorker(3, 2, 2) in story.tell(MoldBooted(2, WATCHED), 1)
    assert story.tell(WorkerBooted(3), 1) == []
    assert story.events()[-1] == "canary_started"
    return story


def sampled(new: Sample, old: Sample = QUIET) -> Sampled:
    return Sampled({1: old, 2: old, 3: new})


def test_nothing_is_replaced_before_its_time_is_over() -> None:
    story = watched()
    for _ in range(15):
        assert story.tell(sampled(QUIET), 0.5) == []
    assert "canary_passed" not in story.events()
    story.tell(sampled(QUIET), 3)
    assert "canary_passed" in story.events()
    commands = story.until_due()
    assert [command for command in commands if isinstance(command, RetireWorker)]


def test_one_that_fails_is_taken_back_at_once() -> None:
    story = watched()
    assert story.tell(sampled(QUIET), 0.5) == []
    story.tell(sampled(Sample(100, 30, 0), Sample(300, 0, 0)), 0.5)
    assert story.events()[-2:] == ["rollback", "reload_failed"]
    assert story.fleet.current == 1
    failed = story.said[-1].fields
    assert failed["stage"] == "canary"
    assert failed["error"] == (
        "its first worker is worse than the old ones: 5xx: 30 of 100 answers failed, 0 of 400 answers failed of the old workers'"
    )


def test_one_that_dies_while_it_is_watched_is_followed_by_another() -> None:
    story = watched()
    story.tell(WorkerGone(3, 5), 0.5)
    assert story.fleet.canary is None
    assert [command for command in story.until_due() if isinstance(command, ForkWorker)]
    story.tell(WorkerBooted(4), 0.5)
    assert story.fleet.canary is not None
    assert story.fleet.canary.worker_id == 4


def test_a_first_start_watches_nobody() -> None:
    story = Story.serving(WATCHED)
    assert "canary_started" not in story.events()
    assert story.fleet.canary is None


def test_more_workers_than_before_come_after_the_watch() -> None:
    story = Story.serving(WATCHED)
    story.tell(Reload())
    spawned = story.tell(MoldBooted(2, replace(WATCHED, workers=6)), 1)
    assert [command for command in spawned if isinstance(command, ForkWorker)] == [ForkWorker(3, 2, 2)]


@pytest.mark.parametrize(
    "new, old, worse",
    [
        (Sample(0, 0, 0), Sample(0, 0, 0), False),
        (Sample(5, 2, 0), Sample(100, 0, 0), False),  # an accident
        (Sample(5, 3, 0), Sample(0, 0, 0), True),
        (Sample(1000, 10, 0), Sample(1000, 0, 0), False),
        (Sample(1000, 11, 0), Sample(1000, 0, 0), True),
        (Sample(1000, 100, 0), Sample(1000, 60, 0), False),  # the site fails anyway
        (Sample(1000, 300, 0), Sample(1000, 60, 0), True),
        (Sample(10, 0, 1), Sample(10, 0, 0), False),
        (Sample(10, 0, 2), Sample(10, 0, 0), True),
        (Sample(10, 0, 5), Sample(10, 0, 2), False),
    ],
)
def test_what_is_worse_is_a_matter_of_both(new: Sample, old: Sample, worse: bool) -> None:  # noqa: FBT001 - a column of the table
    canary = Canary(worker_id=9, ends=10.0, look_at=0.0)
    assert canary.look({9: Sample(0, 0, 0), 1: Sample(7, 7, 7)}, 0.0) == ""
    after = Sample(*(now + before for now, before in zip(old, Sample(7, 7, 7), strict=True)))
    assert bool(canary.look({9: new, 1: after}, 1.0)) is worse


def test_only_what_old_workers_fail_meanwhile_is_held_against_them() -> None:
    canary = Canary(worker_id=9, ends=10.0, look_at=0.0)
    canary.look({9: Sample(0, 0, 0), 1: Sample(1000, 900, 50)}, 0.0)
    assert canary.look({9: Sample(100, 20, 0), 1: Sample(1100, 900, 50)}, 1.0)

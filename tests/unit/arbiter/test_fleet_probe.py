"""A generation is asked what it answers before it is trusted, and measured by the one in force."""

from __future__ import annotations

from dataclasses import replace

import pytest

from djworker.arbiter import probing
from djworker.arbiter.commands import AdoptConfig, BootMold, Exit, ForkWorker, KillMold, ProbeMold, StopMold
from djworker.arbiter.events import (
    DeadlineReached,
    GenerationProbed,
    MoldBooted,
    MoldBootFailed,
    MoldGone,
    Reload,
    Started,
    Stop,
    WorkerFailed,
    WorkerGone,
)
from djworker.arbiter.handles import Policy
from djworker.arbiter.probing import Answer, Failure
from djworker.arbiter.timing import PROBE_WAIT, RETRIES
from tests.unit.arbiter.story import POLICY, Story

ASKING = replace(POLICY, probe=True)
STRICT = replace(ASKING, strict=True)
GOOD, BAD = Answer(False, ""), Answer(True, "500: ValueError: no", "Traceback: in view")
FINE, BROKEN = {"GET /": GOOD}, {"GET /": BAD}


def measured(old: dict[str, Answer]) -> Story:
    """Generation 2 is loaded, and generation 1 has answered."""
    story = Story.serving()
    story.tell(Reload())
    assert story.tell(MoldBooted(2, ASKING), 1) == [ProbeMold(1, about=2)]
    assert story.tell(GenerationProbed(1, 2, old), 1) == [ProbeMold(2, about=2)]
    assert story.fleet.rolling
    return story


def test_good_answers_are_trusted() -> None:
    story = measured(FINE)
    assert story.tell(GenerationProbed(2, 2, FINE), 1) == [AdoptConfig(2), ForkWorker(3, 2, 2)]


def test_a_worse_answer_keeps_the_old_generation() -> None:
    story = measured(FINE)
    assert story.tell(GenerationProbed(2, 2, BROKEN), 1) == [StopMold(2)]
    assert story.fleet.current == 1
    assert story.events() == ["reload_started", "mold_failed", "reload_failed"]
    fields = story.said[-1].fields
    assert (fields["stage"], fields["module"], fields["traceback"]) == ("probe", "GET /", "Traceback: in view")
    assert fields["serving"] == 1
    assert story.tell(MoldGone(2, 0), 1) == []
    assert story.tell(Reload(), 1) == [BootMold(3)], "the next good HUP works"


def test_an_answer_that_was_bad_before_is_only_said() -> None:
    story = measured(BROKEN)
    assert AdoptConfig(2) in story.tell(GenerationProbed(2, 2, BROKEN), 1)
    assert story.events() == ["reload_started", "probe_failed"]


@pytest.mark.parametrize(
    "before, told",
    [(FINE, BROKEN), (FINE, {}), (BROKEN, FINE)],
    ids=["a spare of newer code", "no spare", "a page that was bad when the generation came"],
)
def test_a_spare_worker_lowers_no_measure_and_may_raise_it(before: dict[str, Answer], told: dict[str, Answer]) -> None:
    story = Story.serving()
    story.tell(GenerationProbed(1, 1, before), 1)
    story.tell(Reload())
    story.tell(MoldBooted(2, ASKING), 1)
    story.tell(GenerationProbed(1, 2, told, by_spare=True), 1)
    assert story.tell(GenerationProbed(2, 2, BROKEN), 1) == [StopMold(2)]


def test_a_question_that_the_old_generation_does_not_know_refuses_nobody() -> None:
    story = measured({})
    assert AdoptConfig(2) in story.tell(GenerationProbed(2, 2, {"database 'new'": BAD}), 1)


def test_a_mold_in_force_that_does_not_answer_is_not_waited_for() -> None:
    """One of an older version does not know the question."""
    story = Story.serving()
    story.tell(Reload())
    story.tell(MoldBooted(2, ASKING), 1)
    assert ProbeMold(2, about=2) in story.tell(DeadlineReached(), PROBE_WAIT)
    assert AdoptConfig(2) in story.tell(GenerationProbed(2, 2, BROKEN), 1)
    assert "probe_failed" in story.events()


def test_a_new_mold_that_does_not_answer_is_killed() -> None:
    story = measured(FINE)
    assert KillMold(2, "probe") in story.tell(DeadlineReached(), PROBE_WAIT)
    assert story.fleet.current == 1
    assert story.said[-1].event == "reload_failed"


def test_a_page_that_ends_the_mold_itself_keeps_the_old_generation() -> None:
    story = measured(FINE)
    assert story.tell(MoldGone(2, -11), 1) == []
    fields = story.said[-1].fields
    assert (story.fleet.current, fields["stage"]) == (1, "probe")
    assert fields["error"] == "its mold ended while it was asked for pages: SIGSEGV"


def test_a_mold_in_force_that_dies_is_measured_by_what_it_once_answered() -> None:
    story = measured(FINE)
    story.tell(GenerationProbed(2, 2, FINE), 1)
    story.tell(MoldGone(1, -9))
    story.tell(MoldGone(2, -9))
    booted = [command for command in story.until_due() if isinstance(command, BootMold)]
    generation = (booted or [BootMold(story.fleet.processes.last_generation)])[0].generation
    assert story.tell(MoldBooted(generation, ASKING), 1) == [ProbeMold(generation, about=generation)]
    assert StopMold(generation) in story.tell(GenerationProbed(generation, generation, BROKEN), 1)


def test_the_measure_is_asked_no_more_when_its_mold_dies() -> None:
    story = Story.serving()
    story.tell(Reload())
    story.tell(MoldBooted(2, ASKING), 1)
    assert ProbeMold(2, about=2) in story.tell(MoldGone(1, -9))


def test_a_first_start_does_not_wait_for_its_answers() -> None:
    story = Story(ASKING)
    story.tell(Started())
    commands = story.tell(MoldBooted(1, ASKING), 1)
    assert ProbeMold(1, about=1) in commands
    assert ForkWorker(1, 0, 1) in commands
    story.tell(GenerationProbed(1, 1, BROKEN), 1)
    assert story.events() == ["probe_failed"]


def test_a_strict_first_start_is_refused_for_bad_answers() -> None:
    story = Story(STRICT)
    story.tell(Started())
    assert story.tell(MoldBooted(1, STRICT), 1) == [ProbeMold(1, about=1)]
    assert story.tell(GenerationProbed(1, 1, BROKEN), 1) == [StopMold(1)]
    assert story.tell(MoldGone(1, 0), 1) == [Exit(3)]


def test_a_stop_ends_a_mold_that_is_asked() -> None:
    story = measured(FINE)
    assert KillMold(2, "stopping") in story.tell(Stop(fast=False))
    assert story.tell(GenerationProbed(2, 2, FINE), 1) == []


@pytest.mark.parametrize("said_first", [False, True])
def test_a_failed_boot_says_its_reason(said_first: bool) -> None:  # noqa: FBT001
    story = Story.serving()
    story.tell(Reload())
    if said_first:
        story.tell(MoldBootFailed(2, Failure("checks", "shop.models", "E001", "Traceback")))
    story.tell(MoldGone(2, 3), 1)
    fields = story.said[-1].fields
    wanted = ("checks", "shop.models", "Traceback") if said_first else ("boot", "", "")
    assert (fields["stage"], fields["module"], fields["traceback"]) == wanted


def test_workers_that_die_leave_their_last_words() -> None:
    story = Story.serving(Policy(1, 30, 60, 30))
    story.tell(Reload())
    story.tell(MoldBooted(2, story.fleet.policy), 1)
    for _ in range(RETRIES):
        while not story.fleet.processes.starting():
            story.until_due()
        (worker,) = story.fleet.processes.starting()
        story.tell(WorkerFailed(worker.worker_id, Failure("workers", "", "KeyError: 'x'", "Traceback")))
        story.tell(WorkerGone(worker.worker_id, 1), 0.3)
    assert story.said[-1].event == "reload_failed"
    assert story.said[-1].fields["error"] == "KeyError: 'x'"


def test_what_is_no_answer_is_refused() -> None:
    assert probing.read({"GET /": [True, "no", ""]}) == {"GET /": Answer(bad=True, text="no")}
    for wrong in ([1, "", ""], [True, ""], "bad", None, {"bad": True}):
        with pytest.raises(ValueError, match="no answer"):
            probing.read({"GET /": wrong})

"""A random walk: whatever the new code does, ready workers never fall below the target."""

from __future__ import annotations

from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from djworker.arbiter.events import (
    DeadlineReached,
    Event,
    MoldBooted,
    MoldGone,
    Recycle,
    Reload,
    Scale,
    Started,
    WorkerBooted,
    WorkerGone,
)
from tests.unit.arbiter.world import World, is_expected, settled

STEPS = st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 1.9])), max_size=120)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from([0.0, 0.05, 0.3, 1.0, 1.9])), max_size=200))
def test_ready_workers_never_fall_below_the_target(steps: list[tuple[int, float]]) -> None:
    world = World()
    world.serve()
    for choice, seconds in steps:
        events = world.possible()
        world.apply(events[choice % len(events)])
        world.check()
        world.pass_time(seconds)
        world.check()


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_whatever_number_is_wanted_nobody_is_retired_below_it(steps: list[tuple[int, float]]) -> None:
    world = World()
    world.serve()
    for choice, seconds in steps:
        events = [*world.possible(), Scale(+1), Scale(-1)]
        world.apply(events[choice % len(events)])
        world.check_retired()
        world.pass_time(seconds)
        world.check_retired()


@settings(max_examples=50, deadline=None)
@given(STEPS)
def test_good_code_always_gets_there(steps: list[tuple[int, float]]) -> None:
    """After any history, a reload with code that works ends with the wanted workers, all of one generation, one mold."""
    world = World()
    world.serve()
    for choice, seconds in steps:
        events = world.possible()
        world.apply(events[choice % len(events)])
        world.pass_time(seconds)
    world.apply(Reload())
    live_well(world)


def live_well(world: World) -> None:
    """Every process does from now on what it is to do, until nothing more is to be done."""
    for _ in range(2000):
        good = [e for e in world.possible() if not isinstance(e, (Reload, Recycle, DeadlineReached))]
        good = [e for e in good if isinstance(e, (MoldBooted, WorkerBooted)) or is_expected(world, e)]
        if good:
            world.apply(good[0])
        elif world.fleet.next_deadline() < inf and not settled(world):
            world.pass_time(1.0)
        else:
            break
    assert settled(world)


def is_the_first_code_failing(world: World, event: Event) -> bool:
    """Whether it is bad luck of generation 1, which is good code in the next test."""
    match event:
        case MoldGone(generation):
            return generation == 1 and not is_expected(world, event)
        case WorkerGone(worker_id):
            return world.fleet.processes.workers[worker_id].generation == 1 and not is_expected(world, event)
    return False


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_no_reload_ends_a_first_start_that_succeeds(steps: list[tuple[int, float]]) -> None:
    """The first code is good, everything that is loaded after it as bad as can be."""
    world = World()
    world.happen(Started())
    for choice, seconds in steps:
        events = [event for event in world.possible() if not is_the_first_code_failing(world, event)]
        world.apply(events[choice % len(events)])
        world.pass_time(seconds)
        assert not world.fleet.stopping
    live_well(world)


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_a_first_start_that_never_succeeds_ends(steps: list[tuple[int, float]]) -> None:
    """No worker is ever ready; once nobody asks for newer code any more, there is an exit code."""
    world = World()
    world.happen(Started())
    for choice, seconds in steps:
        events = [event for event in world.possible() if not isinstance(event, WorkerBooted)]
        if world.exit_code is None:
            world.apply(events[choice % len(events)])
            world.pass_time(seconds)
    for _ in range(500):
        deaths = [event for event in world.possible() if isinstance(event, (MoldGone, WorkerGone))]
        if world.exit_code is not None:
            break
        if deaths:
            world.apply(deaths[0])
        else:
            world.pass_time(1.0)
    assert world.exit_code == 3
    assert not world.molds
    assert not world.workers

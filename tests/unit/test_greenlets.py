"""Which greenlet has spawned which, and where it is."""

from __future__ import annotations

import sys
from typing import Any

import gevent
from greenlet import greenlet

from djworker.greenlets import GENERATIONS, spawners_of, upwards


def generations(count: int) -> list[Any]:
    """Greenlets, each spawned by the one before it; the last has ended."""
    family: list[Any] = []

    def have_child() -> None:
        family.append(gevent.getcurrent())
        if len(family) < count:
            gevent.spawn(have_child).join()

    gevent.spawn(have_child).join()
    return family


def test_who_spawned_a_greenlet_is_told_nearest_first() -> None:
    first, second, third = generations(3)
    # The test's own greenlet has spawned the first, and is no Greenlet of gevent's.
    assert list(spawners_of(third))[:2] == [second, first]


def test_the_walk_ends_after_some_generations() -> None:
    *older, youngest = generations(GENERATIONS + 2)
    assert list(spawners_of(youngest)) == older[:0:-1]


def test_a_greenlet_that_gevent_did_not_spawn_has_no_spawner() -> None:
    assert not list(spawners_of(greenlet(generations)))
    assert not list(spawners_of(None))


def test_a_frame_is_followed_by_its_callers() -> None:
    frame = sys._getframe()
    above = list(upwards(frame))
    assert above[:2] == [frame, frame.f_back]
    assert above[-1].f_back is None
    assert not list(upwards(None))

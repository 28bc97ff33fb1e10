"""The road of an acquire that has to connect: it leads in one direction, and is short."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from djworker.db.pool import pool
from tests.unit.db.world import World

HERE = str(Path(pool.__file__).parent)
#: With one connect, of one waiter: 56 calls and 30 moves between modules when this was written; before, 92 and 50.
MOST_CALLS, MOST_MOVES = 62, 34


@contextmanager
def calls_noted() -> Iterator[list[str]]:
    """The functions of the pool's package as they are called, by the module."""
    found: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(HERE):
            found.append(Path(frame.f_code.co_filename).stem)

    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)


def test_an_acquire_that_has_to_connect_goes_a_short_way() -> None:
    world = World(max_size=4)
    world.user_with_conn()
    with calls_noted() as modules:
        user = world.user()
        world.run()
    assert user.conn is not None
    moves = sum(before != after for before, after in itertools.pairwise(modules))
    assert len(modules) <= MOST_CALLS, modules
    assert moves <= MOST_MOVES, modules

"""The scoreboard: rows that do not touch, seen by every process that maps it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from djworker.conf import OPTIONS
from djworker.scoreboard import SLOTS, Gauge, Phase, Scoreboard, free_slot


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    made = Scoreboard.create()
    yield made
    os.close(made.fileno())


def test_rows_do_not_touch(board: Scoreboard) -> None:
    for slot in (0, 1, SLOTS - 1):
        for gauge in Gauge:
            board.row(slot)[gauge] = slot * 100 + gauge + 1
    for slot in (0, 1, SLOTS - 1):
        assert [board.row(slot)[gauge] for gauge in Gauge] == [slot * 100 + gauge + 1 for gauge in Gauge]
    board.row(1).clear()
    assert [board.row(1)[gauge] for gauge in Gauge] == [0] * len(Gauge)
    assert board.row(0)[Gauge.GENERATION] == 1
    assert board.row(1)[Gauge.PHASE] == Phase.EMPTY


def test_large_and_negative_numbers(board: Scoreboard) -> None:
    row = board.row(0)
    for value in (2**63 - 1, -(2**63), 0):
        row[Gauge.BEAT] = value
        assert row[Gauge.BEAT] == value


@pytest.mark.parametrize("slot", [-1, SLOTS])
def test_off_the_board(board: Scoreboard, slot: int) -> None:
    with pytest.raises(IndexError, match="not on the scoreboard"):
        board.row(slot)


def test_a_child_writes_and_its_parent_reads(board: Scoreboard) -> None:
    pid = os.fork()
    if not pid:
        Scoreboard(board.fileno()).row(2)[Gauge.REQUESTS] = 42
        os._exit(0)
    os.waitpid(pid, 0)
    assert board.row(2)[Gauge.REQUESTS] == 42
    assert not os.get_inheritable(board.fileno())


def test_free_slot() -> None:
    assert free_slot(set()) == 0
    assert free_slot({0, 1, 3}) == 2


def test_there_is_room_for_the_largest_fleet() -> None:
    assert OPTIONS["workers"].spec.maximum is not None
    assert OPTIONS["workers"].spec.maximum < SLOTS

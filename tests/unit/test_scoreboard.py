"""The scoreboard: a row for each worker, seen by both sides, and a page that is nobody else's."""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from djworker.conf.table import OPTIONS
from djworker.ipc.scoreboard import ROW_SIZE, SLOTS, Gauge, Phase, Row, free_slot


@pytest.fixture
def row() -> Iterator[Row]:
    made = Row.create()
    yield made
    made.close()


def test_every_gauge_has_a_word_of_its_own(row: Row) -> None:
    for gauge in Gauge:
        row[gauge] = gauge + 1
    assert [row[gauge] for gauge in Gauge] == [gauge + 1 for gauge in Gauge]


def test_a_new_row_is_empty(row: Row) -> None:
    assert {row[gauge] for gauge in Gauge} == {0}
    assert row[Gauge.PHASE] == Phase.EMPTY
    assert repr(row) == "<Row empty>"


def test_large_and_negative_numbers_are_kept(row: Row) -> None:
    for value in (2**63 - 1, -(2**63), 0):
        row[Gauge.BEAT] = value
        assert row[Gauge.BEAT] == value


def test_a_child_writes_and_its_parent_reads(row: Row) -> None:
    pid = os.fork()
    if not pid:
        Row(row.fileno())[Gauge.REQUESTS] = 42
        os._exit(0)
    os.waitpid(pid, 0)
    assert row[Gauge.REQUESTS] == 42
    assert not os.get_inheritable(row.fileno())


def test_two_rows_share_no_memory(row: Row) -> None:
    """What maps one, or writes through its descriptor, cannot reach the other: it is another file."""
    other = Row.create()
    os.pwrite(other.fileno(), b"\xff" * ROW_SIZE, 0)
    assert {row[gauge] for gauge in Gauge} == {0}
    assert {other[gauge] for gauge in Gauge} == {-1}
    other.close()


def test_its_worker_cannot_end_who_reads_it(row: Row) -> None:
    """A mapping that is longer than its file is SIGBUS for its reader, and the reader is the arbiter."""
    assert sys.platform == "linux", "elsewhere a file cannot be sealed: docs/explanation/security.md says so"
    for size in (0, ROW_SIZE - 1, ROW_SIZE + mmap.PAGESIZE, 1 << 40):
        with pytest.raises(PermissionError):
            os.ftruncate(row.fileno(), size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(row.fileno(), fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_a_closed_row_has_no_descriptor() -> None:
    before = set(Path("/dev/fd").iterdir())
    row = Row.create()
    row.close()
    row.close()
    assert row.fileno() == -1
    assert repr(row) == "<Row closed>"
    assert set(Path("/dev/fd").iterdir()) == before


def test_the_lowest_free_slot_is_taken() -> None:
    assert free_slot(set()) == 0
    assert free_slot({0, 1, 3}) == 2


def test_there_is_room_for_the_largest_fleet() -> None:
    assert OPTIONS["workers"].spec.maximum is not None
    assert OPTIONS["workers"].spec.maximum < SLOTS

"""Regions: what is counted stays counted, whoever writes next, and no word of a region ends its reader."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator

import pytest

from djworker.ipc import metrics, regions
from djworker.ipc.board import Board, SlotView, Word, WorkerSlotState
from djworker.ipc.metrics import METRICS, Type
from djworker.ipc.regions import LABEL, SIZE, Region, RegionReader, Writer


@pytest.fixture
def region() -> Iterator[Region]:
    made = Region.create("test")
    yield made
    made.close()


def told(region: Region) -> dict[tuple[str, tuple[str, ...]], list[int]]:
    """All series, as a reader sees them."""
    reader = RegionReader(region)
    values = (reader.index(), reader.values())
    found = {
        (item.metric.name, item.labels): list(values[1][item.first : item.first + item.size]) for item in values[0]
    }
    reader.close()
    return found


def test_the_next_writer_goes_on_adding(region: Region) -> None:
    for _ in range(3):
        writer = Writer(region)
        writer.add(metrics.REQUESTS, 2, ("shop:list", "GET", "2xx"))
        writer.close()
    assert told(region) == {("djworker_requests_total", ("shop:list", "GET", "2xx")): [6]}


def test_a_gauge_of_the_writer_before_is_zero(region: Region) -> None:
    before = Writer(region)
    before.set(metrics.RUNNING, 7)
    before.close()
    Writer(region).close()
    assert told(region)["djworker_requests_running", ()] == [0]


def test_an_entry_that_was_not_finished_is_not_there(region: Region) -> None:
    """The writer was killed between two stores: what it had begun is written over."""
    writer = Writer(region)
    writer.add(metrics.SWALLOWED)
    used = writer.words[1]
    writer.add(metrics.REFUSED, 5, ("503",))
    writer.words[1] = used  # the last store of a new entry
    writer.close()
    again = Writer(region)
    again.add(metrics.REFUSED, 1, ("400",))
    again.close()
    assert told(region) == {
        ("djworker_metrics_swallowed_total", ()): [1],
        ("djworker_requests_refused_total", ("400",)): [1],
    }


def test_labels_of_every_kind_come_back(region: Region) -> None:
    writer = Writer(region)
    labels = ["", "ü" * LABEL, 'a"b\\n\n', "\x1f", "x" * 1000, "\udcff"]
    for label in labels:
        writer.add(metrics.REFUSED, 1, (label,))
        writer.add(metrics.REFUSED, 1, (label,))
    found = {labels[0]: values[0] for (_name, labels), values in told(region).items()}
    assert found == {"": 2, "ü" * LABEL: 2, 'a"b\\n\n': 2, " ": 2, "x" * LABEL: 2, "?": 2}


def test_a_region_that_is_full_goes_on(region: Region) -> None:
    """What finds no room is lost, and nothing else changes."""
    writer = Writer(region)
    writer.add(metrics.SWALLOWED, 3)
    for number in range(SIZE // 100):
        writer.add(metrics.POOL_WAIT, 1, (f"{number:0{LABEL}}",))
    known = writer.count(metrics.POOL_WAIT)
    writer.add(metrics.SWALLOWED)
    writer.close()
    found = told(region)
    assert found["djworker_metrics_swallowed_total", ()] == [4]
    assert len(found) == known + 1
    assert {values[0] for name, values in found.items() if "wait" in name[0]} == {1}


def test_a_reader_sees_what_comes_later(region: Region) -> None:
    writer, reader = Writer(region), RegionReader(region)
    assert reader.index() == []
    writer.add(metrics.SWALLOWED)
    assert [item.metric for item in reader.index()] == [metrics.SWALLOWED]
    writer.add(metrics.REFUSED, 4, ("414",))
    last = reader.index()[-1]
    assert (last.labels, reader.values()[last.first]) == (("414",), 4)


@pytest.mark.parametrize("seed", range(20))
def test_no_garbage_ends_a_reader_or_the_next_writer(region: Region, seed: int) -> None:
    """A worker that was taken over can write anything into its own region."""
    dice = random.Random(seed)
    writer = Writer(region)
    for number in range(50):
        writer.add(metrics.REFUSED, 1, (str(number),))
    writer.close()
    for _ in range(30):
        word = dice.choice(
            (dice.getrandbits(64), dice.randrange(300), 2**63, SIZE // 8, struct.unpack("<Q", b"\xff" * 8)[0])
        )
        os.pwrite(region.fileno(), struct.pack("<Q", word), 8 * dice.randrange(1, 200))
    told(region)
    again = Writer(region)
    again.add(metrics.SWALLOWED)
    assert told(region)["djworker_metrics_swallowed_total", ()][0] != 0


def test_another_form_is_begun_anew(region: Region) -> None:
    os.pwrite(region.fileno(), struct.pack("<QQ", 1, 9999), 0)
    assert told(region) == {}
    writer = Writer(region)
    writer.add(metrics.SWALLOWED)
    assert told(region) == {("djworker_metrics_swallowed_total", ()): [1]}


def test_its_reader_cannot_write_and_its_size_cannot_change(region: Region) -> None:
    fd = region.read_only()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(fd, b"x", 0)
    reading = Region(fd)
    with pytest.raises(PermissionError):
        reading.map(writable=True)
    with pytest.raises(PermissionError):
        os.ftruncate(region.fileno(), 0)
    assert reading.map(writable=False)[0] == 0
    reading.close()
    reading.close()
    assert repr(reading) == "<Region closed>"


def test_the_board_tells_of_slots_and_forgets_them() -> None:
    region = Region.create("board")
    board, seen = Board(region, writable=True), Board(region, writable=False)
    board.tell({0: SlotView(WorkerSlotState.READY, 10, 1), 2: SlotView(WorkerSlotState.DRAINING, 11, 1)})
    board[Word.STOPPING] = True
    assert seen.slots() == {0: SlotView(WorkerSlotState.READY, 10, 1), 2: SlotView(WorkerSlotState.DRAINING, 11, 1)}
    board.tell({1: SlotView(WorkerSlotState.STARTING, 12, 2)})
    assert seen.slots() == {1: SlotView(WorkerSlotState.STARTING, 12, 2)}
    assert "STOPPING" in repr(seen)
    board.close()
    seen.close()
    region.close()


def test_every_metric_has_a_number_and_a_name_of_its_own() -> None:
    table = [item for item in vars(metrics).values() if isinstance(item, metrics.Metric)]
    assert len(METRICS) == len(table) == len({item.name for item in table})
    for item in table:
        assert item.name.endswith("_total") == (item.type is Type.COUNTER), item.name
        assert item.help or not item.exported
    assert regions.FORM  # part of every region

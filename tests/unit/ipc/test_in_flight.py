"""Requests in memory that outlives their worker: what a reader finds, whatever was written there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from djworker.arbiter import lost_requests
from djworker.ipc import in_flight
from djworker.ipc.in_flight import COUNT, Records, read
from djworker.ipc.scoreboard import ROW_SIZE, Row

HEAD = b"GET /a%20b?q=1 HTTP/1.1\r\nHost: x\r\nUser-Agent: it\r\n\r\n"


@pytest.fixture
def row() -> Iterator[Row]:
    """A worker's."""
    row = Row.create(in_flight.SIZE)
    yield row
    row.close()


def test_a_begun_request_is_found_until_it_has_ended(row: Row) -> None:
    record = Records(row.fileno()).take("::1")
    assert record is not None
    began = time.monotonic()
    record.begin(HEAD, began)
    [lost] = read(row.fileno())
    assert (lost.began, lost.client, lost.phase) == (began, "::1", "running")
    assert lost.head + b"\r\n\r\n" == HEAD
    record.end()
    assert read(row.fileno()) == []


def test_phase_and_client_are_those_of_one_request(row: Row) -> None:
    record = Records(row.fileno()).take("::1")
    assert record is not None
    record.begin(HEAD, 1.0)
    record.doing("in SQL")
    record.of("10.1.2.3")
    [lost] = read(row.fileno())
    assert (lost.phase, lost.client) == ("in SQL", "10.1.2.3")
    record.begin(HEAD[:20] + b"\r\n\r\n", 2.0)
    [lost] = read(row.fileno())
    assert (lost.phase, lost.client, lost.head) == ("running", "::1", HEAD[:20]), "the head before was longer"
    for number, client in enumerate(("10.1.2.3", "10.1.2.3", "10.1.2.4", "10.1.2.3"), 3):
        record.begin(HEAD, float(number))
        record.of(client)
        assert [lost.client for lost in read(row.fileno())] == [client]


def test_places_are_lent_again(row: Row) -> None:
    records = Records(row.fileno())
    taken = [records.take("::1") for _ in range(COUNT)]
    assert records.take("::1") is None
    last = taken[-1]
    assert last is not None
    last.begin(HEAD, 1.0)
    records.give_back(last)
    assert read(row.fileno()) == []
    again = records.take("127.0.0.1")
    assert again is not None
    assert again.number == last.number


def test_a_head_that_is_longer_than_its_place_is_cut(row: Row) -> None:
    record = Records(row.fileno()).take("::1")
    assert record is not None
    record.begin(HEAD[:-2] + b"Cookie: " + b"x" * 9999 + b"\r\n\r\n", 1.0)
    [lost] = read(row.fileno())
    assert lost.head.startswith(HEAD[:-2] + b"Cookie: xxx")


def test_the_row_of_an_earlier_program_has_none() -> None:
    row = Row.create()
    assert os.fstat(row.fileno()).st_size == ROW_SIZE
    assert Records(row.fileno()).take("::1") is None
    assert read(row.fileno()) == []
    row.close()


@pytest.mark.parametrize("garbage", [b"\xff", b"\x7f", b"a\r\n:", bytes(range(256))], ids=["ff", "7f", "lines", "all"])
def test_what_a_worker_writes_there_is_read_as_it_is(row: Row, garbage: bytes) -> None:
    """No value of it ends the reader, which may be root."""
    os.pwrite(row.fileno(), (garbage * in_flight.SIZE)[: in_flight.SIZE], ROW_SIZE)
    found = lost_requests.read(row.fileno())
    assert len(found) == COUNT
    for lost in found:
        assert 0 < lost.began <= time.monotonic()
        assert lost.phase in in_flight.PHASES
        assert lost_requests._environ(lost)["REMOTE_ADDR"] == lost.client

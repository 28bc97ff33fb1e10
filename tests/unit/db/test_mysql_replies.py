"""Is the whole answer here? Packets are built as the protocol's documentation has them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from djworker.db.drivers.mysql_replies import is_whole


def packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number & 0xFF]) + payload


def rows_answer(columns: int, rows: list[bytes]) -> bytes:
    """Text resultset: column count, definitions, EOF, rows, EOF."""
    eof = b"\xfe\x00\x00\x02\x00"
    payloads = [bytes([columns]), *[b"\x03def" + b"x" * 20] * columns, eof, *rows, eof]
    return b"".join(packet(number, payload) for number, payload in enumerate(payloads, 1))


def whole(data: bytes) -> bool:
    return is_whole(bytearray(data) + b"\xfe" * 16, len(data))  # what lies behind is of an earlier answer


def record(payload: bytes) -> bytes:
    return b"\x17\x03\x03" + len(payload).to_bytes(2, "big") + payload


def test_ok_and_error() -> None:
    for payload in (b"\x00\x00\x00\x02\x00\x00\x00", b"\xff\x10\x04Too many connections"):
        assert whole(packet(1, payload))
        assert not whole(packet(1, payload)[:-1])


def test_no_byte_is_no_reply() -> None:
    assert not whole(b"")
    assert not whole(b"\x01\x00\x00\x01")


def test_the_end_of_the_column_definitions_is_not_the_end() -> None:
    answer = rows_answer(3, [])
    assert whole(answer)
    assert not whole(answer[:-9])


def test_load_data_local_is_left_to_a_thread() -> None:
    assert not whole(packet(1, b"\xfb/etc/passwd"))


def test_rows_that_end_with_an_ok_packet() -> None:
    answer = packet(1, b"\x01") + packet(2, b"\x03def" + b"x" * 20) + packet(3, b"\x011")
    assert whole(answer + packet(4, b"\xfe\x00\x00\x02\x00\x00\x00"))
    assert not whole(answer)


def test_records_of_tls_are_counted_whole() -> None:
    assert whole(record(b"x" * 100))
    assert whole(record(b"x" * 16384) + record(b"x" * 10))
    assert not whole(record(b"x" * 16401))  # full: the server's buffer was, so more will come
    assert not whole(record(b"x" * 100)[:-1])
    assert not whole(record(b"x" * 100) + b"\x17\x03")


@given(columns=st.integers(1, 250), rows=st.lists(st.binary(min_size=1, max_size=30), max_size=300))
def test_a_whole_answer_is_known_unless_its_number_is_ambiguous(columns: int, rows: list[bytes]) -> None:
    assert whole(rows_answer(columns, rows)) or len(rows) % 256 == 255


@given(
    columns=st.integers(1, 20), rows=st.lists(st.text("abc", min_size=1).map(str.encode), max_size=20), data=st.data()
)
def test_half_an_answer_never_is(columns: int, rows: list[bytes], data: st.DataObject) -> None:
    answer = rows_answer(columns, rows)
    assert not whole(answer[: data.draw(st.integers(0, len(answer) - 1))])

"""The receive buffer: limits that small packets cannot get around, and what it keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djworker.http.receive_buffer import HeadLimits, ReceiveBuffer
from djworker.http.request import ProtocolError
from tests.unit.http.reading import Limits, bytewise, read

LIMITS = HeadLimits(line=50, fields=3, field=20)


def fed_until_refused(data: bytes, limits: HeadLimits = LIMITS) -> tuple[int, int]:
    """Feed by the byte; return the status, and the bytes that it took."""
    buffer = ReceiveBuffer()
    for count, byte in enumerate(bytewise(data), 1):
        buffer.feed(byte)
        try:
            buffer.take_head(limits)
        except ProtocolError as error:
            return error.status, count
    return 0, len(data)


@pytest.mark.parametrize(
    "endless, status, most",
    [
        (b"GET /" + b"a" * 1000, 414, 55),
        (b"GET / HTTP/1.1\r\n" + b"a" * 1000, 431, 40),
        (b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 1000, 431, 50),
        (b"GET / HTTP/1.1\r\nX: 1\r\nX: " + b"a" * 1000, 431, 50),
    ],
)
def test_an_endless_head_is_refused_as_soon_as_a_limit_is_reached(endless: bytes, status: int, most: int) -> None:
    found, count = fed_until_refused(endless)
    assert found == status
    assert count <= most


@pytest.mark.parametrize("noise", [b"\x16\x03\x01", b"\x00", b"{", b"\n", b"GET /\x00", b"GET / HTTP/1.1\n", b"GET\r "])
def test_noise_is_refused_before_a_line_is_complete(noise: bytes) -> None:
    assert fed_until_refused(noise + b"x") == (400, fed_until_refused(noise + b"x")[1])


@given(line=st.integers(40, 60), field=st.integers(15, 25), fields=st.integers(0, 5))
def test_limits_are_the_same_whole_and_by_the_byte(line: int, field: int, fields: int) -> None:
    target = b"/" + b"a" * (line - len(b"GET / HTTP/1.1"))
    lines = [b"Host: a"] + [b"X-%d: " % number + b"b" * (field - 5) for number in range(fields)]
    message = b"GET " + target + b" HTTP/1.1\r\n" + b"".join(text + b"\r\n" for text in lines) + b"\r\n"
    limits = Limits(line=50, fields=3, field=20)
    whole, single = read([message], limits), read(bytewise(message), limits)
    fits = line <= 50 and fields + 1 <= 3 and (field <= 20 or fields == 0)
    assert (whole.status == 0) is (single.status == 0) is fits
    assert len(whole.requests) == len(single.requests) == fits


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=10), st.lists(st.integers(1, 30), max_size=20))
def test_what_goes_in_comes_out(pieces: list[bytes], sizes: list[int]) -> None:
    buffer, taken = ReceiveBuffer(), b""
    rest = iter(sizes)
    for piece in pieces:
        buffer.feed(piece)
        taken += buffer.take(next(rest, 1))
        assert bool(buffer.data) is (len(buffer) > 0)
    while buffer.data:
        taken += buffer.take(next(rest, 7))
    assert taken == b"".join(pieces)


def test_a_whole_head_is_not_copied() -> None:
    head = b"GET / HTTP/1.1\r\n\r\n"
    buffer = ReceiveBuffer()
    buffer.feed(head)
    assert buffer.take_head(LIMITS) is head
    assert not buffer.data


def test_the_name_cache_is_bounded() -> None:
    from djworker.http import request

    parser = request.HeadParser(max_line=100, max_fields=10, max_field=500)
    for number in range(request.CACHED_NAMES * 2):
        host = b"h%d.example" % number
        parser.parse(
            b"GET / HTTP/1.1\r\nHost: " + host + b"\r\nX-%d: 1\r\nX-%b: 1\r\n\r\n" % (number, b"a" * 200),
            {},
            request.RequestHead(),
        )
    assert len(parser._variables) <= request.CACHED_NAMES
    assert len(parser._hosts) <= request.CACHED_HOSTS
    assert max(len(name) for name in parser._variables) <= request.CACHED_NAME_LENGTH

"""The PROXY protocol, as strict as its text, in any pieces."""

from __future__ import annotations

import ipaddress
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djworker.http.proxy_header import LONGEST_REST, V2, Announced, read
from djworker.http.request import ProtocolError


def v2(command: int, family: int, rest: bytes = b"", length: int | None = None) -> bytes:
    return V2 + struct.pack("!BBH", command, family, len(rest) if length is None else length) + rest


def addresses(source: str, target: str = "", port: int = 4711) -> bytes:
    packed = [ipaddress.ip_address(text).packed for text in (source, target or source)]
    return b"".join(packed) + struct.pack("!HH", port, 443)


TLV = b"\x04\x00\x05hello"
GOOD = {
    b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n": ("192.0.2.1", "4711"),
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n": ("255.255.255.255", "65535"),
    b"PROXY TCP4 192.0.2.1 198.51.100.2 0 0\r\n": ("192.0.2.1", "0"),
    b"PROXY TCP6 2001:DB8::1 ::1 4711 443\r\n": ("2001:db8::1", "4711"),
    b"PROXY TCP6 ::ffff:192.0.2.1 ::1 4711 443\r\n": ("192.0.2.1", "4711"),
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff::1 whatever 65535 x\r\n": None,
    v2(0x21, 0x11, addresses("192.0.2.1")): ("192.0.2.1", "4711"),
    v2(0x21, 0x21, addresses("2001:db8::1")): ("2001:db8::1", "4711"),
    v2(0x21, 0x11, addresses("192.0.2.1") + TLV): ("192.0.2.1", "4711"),
    v2(0x21, 0x31, b"/run/x".ljust(216, b"\0")): ("127.0.0.1", ""),
    v2(0x21, 0x00): None,
    v2(0x21, 0x00, TLV): None,
    v2(0x20, 0x00): None,
    v2(0x20, 0x11, addresses("192.0.2.1")): None,
    v2(0x20, 0x77, b"x" * LONGEST_REST): None,
}
BAD = [
    b"GET / HTTP/1.1\r\n",
    b"proxy TCP4 192.0.2.1 198.51.100.2 4711 443\r\n",
    b"PROXY\r\n",
    b"PROXY  TCP4 192.0.2.1 198.51.100.2 4711 443\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443 \r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 4711\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 04711 443\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 443\r\n",
    b"PROXY TCP4 192.0.2.01 198.51.100.2 4711 443\r\n",
    b"PROXY TCP4 192.0.2.256 198.51.100.2 4711 443\r\n",
    b"PROXY TCP4 192.0.2.1 nobody 4711 443\r\n",
    b"PROXY TCP4 ::1 ::1 4711 443\r\n",
    b"PROXY TCP6 192.0.2.1 198.51.100.2 4711 443\r\n",
    b"PROXY UDP4 192.0.2.1 198.51.100.2 4711 443\r\n",
    b"PROXY UNKNOWN\0\r\n",
    b"PROXY UNKNOWN " + b"x" * 107,
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    V2[:-1] + b"X",
    v2(0x11, 0x11, addresses("192.0.2.1")),
    v2(0x22, 0x11, addresses("192.0.2.1")),
    v2(0x21, 0x12, addresses("192.0.2.1")),
    v2(0x21, 0x41, addresses("192.0.2.1")),
    v2(0x21, 0x11, addresses("192.0.2.1")[:-1]),
    v2(0x21, 0x21, addresses("192.0.2.1")),
    v2(0x21, 0x31, b"/run/x"),
    v2(0x20, 0x00, length=LONGEST_REST + 1),
    v2(0x21, 0x11, length=65_535),
]


@pytest.mark.parametrize("rest", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\r\n"])
@pytest.mark.parametrize("header, client", GOOD.items())
def test_a_header_ends_where_it_says(header: bytes, client: tuple[str, str] | None, rest: bytes) -> None:
    assert read(header + rest) == Announced(len(header), client)
    for size in range(len(header)):
        assert read(header[:size]) is None


@pytest.mark.parametrize("header", BAD)
def test_what_is_no_header_is_refused(header: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        read(header)
    assert caught.value.status == 400


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda rest: V2 + rest)), st.integers(0, 100))
def test_noise_is_incomplete_or_refused_and_has_an_end(noise: bytes, size: int) -> None:
    with suppress(ProtocolError):
        found = read(noise[:size])
        assert found is None or found.size <= size


def test_no_header_is_waited_for_without_end() -> None:
    for start in (b"PROXY UNKNOWN", V2 + b"\x21\x11\xff\xff"):
        with pytest.raises(ProtocolError):
            read(start + b"x" * (16 + LONGEST_REST))

"""What came before is cached; that must not show."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from djworker.http.head_cache import COOKIE, KNOWN, LONGEST, SEEN, without
from djworker.http.request import HeadParser, ProtocolError, RequestHead

HEAD = b"GET /a%20b?q=1 HTTP/1.1\r\nHost: shop.example\r\nX-One: 1\r\nConnection: keep-alive\r\n\r\n"
# Times after which a head is known as a whole: twice for its fields, twice for all of it.
OFTEN = 5
LIMIT = 6


def a_parser(max_fields: int = LIMIT) -> HeadParser:
    return HeadParser(max_line=3000, max_fields=max_fields, max_field=3000)


def read(parser: HeadParser, head: bytes) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the variables, and what the server itself has to know."""
    environ: dict[str, str] = {"REMOTE_ADDR": "192.0.2.1", "QUERY_STRING": ""}
    request = RequestHead()
    parser.parse(head, environ, request)
    names = ("method", "target", "minor", "keep_alive", "length", "chunked", "expects")
    return environ, {name: getattr(request, name) for name in names}


def outcome(parser: HeadParser, head: bytes) -> object:
    try:
        return read(parser, head)
    except ProtocolError as error:
        return error.status


@pytest.mark.parametrize(
    "head",
    [
        HEAD,
        HEAD.replace(b"1.1\r\n", b"1.0\r\n"),
        HEAD.replace(b"GET", b"HEAD"),
        HEAD.replace(b"/a", b"http://other/a"),
        HEAD.replace(b"keep-alive", b"close"),
        HEAD.replace(b"X-One", b"Cookie"),
        HEAD.replace(b"X-One", b"cookie"),
        HEAD.replace(b"X-One: 1", b"Content-Length: 3"),
    ],
)
def test_it_means_the_same_every_time(head: bytes) -> None:
    parser = a_parser()
    for _ in range(OFTEN):
        environ, request = read(parser, head)
        assert (environ, request) == read(a_parser(), head)
        environ["HTTP_HOST"] = environ["secret"] = "changed by the application"


def test_heads_without_cookies_are_known_as_a_whole() -> None:
    parser = a_parser()
    for _ in range(OFTEN):
        read(parser, HEAD)
    assert set(parser._memory.heads) == {HEAD}


def test_other_targets_cookies_and_referers_make_no_other_block() -> None:
    parser = a_parser()
    for number in range(3 * KNOWN):
        taken = b"Referer: /%d\r\nX-One: 1\r\nCookie: n=%d\r\n" % (number - 1, number)
        head = b"GET /%d HTTP/1.1\r\nHost: a\r\n" % number + taken + b"\r\n"
        environ, request = read(parser, head)
        assert (environ["PATH_INFO"], environ["HTTP_COOKIE"]) == (f"/{number}", f"n={number}")
        assert (environ["HTTP_REFERER"], environ["HTTP_X_ONE"]) == (f"/{number - 1}", "1")
        assert request["target"] == f"/{number}"
    assert set(parser._memory.blocks) == {b"\r\nHost: a\r\nX-One: 1\r\n\r\n"}
    assert not parser._memory.heads


LINES = st.builds(
    b"%b %b %b".__mod__,
    st.tuples(
        st.sampled_from([b"GET", b"GET", b"HEAD", b"POST", b"OPTIONS", b"CONNECT", b"BREW", b"get", b"G T", b""]),
        st.one_of(
            st.sampled_from(
                [b"/", b"/a?b", b"/%41", b"/a#b", b"*", b"http://h/p", b"h:1", b"/\t", b"/a b", b"/\xc3\xa9"]
            ),
            st.integers(0, 255).map(lambda code: b"/a" + bytes([code]) + b"b"),
        ),
        st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1 ", b"http/1.1"]),
    ),
)
VARYING = st.sampled_from(
    [
        *(b"Cookie: a=1", b"cookie: a=1", b"COOKIE: a=1", b"Cookie:a=1", b"Cookie:  a", b"Cookie: a ", b"Cookie: a\t"),
        *(
            b"Cookie: ",
            b"Cookie: \xe9",
            b"Cookie: a\x00",
            b"Cookie: a\rb",
            b"Cookie: a\nb",
            b"X-Cookie: a",
            b"Ookie: a",
        ),
        *(b"Referer: /a", b"referer: /b", b"Referer: ", b"Referer: \xe9", b"X-Referer: a", b"Cookie: Referer: /"),
    ]
)
FIELDS = st.sampled_from(
    [
        *(b"X-One: 1", b"X-One: 2", b"x-one: 3", b"X_One: 4", b"X-Two:\t5\t", b"X-Two: \xe9", b"Proxy: x", b" folded"),
        *(b"Connection: close", b"Connection: Upgrade", b"Upgrade: x", b"Content-Length: 3", b"Content-Length: 4"),
        *(
            b"Transfer-Encoding: chunked",
            b"Expect: 100-continue",
            b"Authorization: Basic eDp5",
            b"Host: b",
            b"bad line",
        ),
    ]
)


def varies(field: bytes) -> bool:
    return b"ookie" in field or b"eferer" in field


@settings(max_examples=500)
@given(
    line=LINES,
    fields=st.lists(st.one_of(FIELDS, VARYING), max_size=LIMIT),
    host=st.sampled_from([b"Host: a", b"Host: a", b"Host: a b", b"X-Host: a"]),
    other=VARYING,
)
@example(line=b"GET / HTTP/1.1", fields=[b"Cookie: "], host=b"Host: a", other=b"Cookie: a=1")
@example(line=b"GET / HTTP/1.1", fields=[b"Cookie: a", b"Cookie: b"], host=b"Host: a", other=b"Cookie: a")
@example(line=b"GET / HTTP/1.1", fields=[b"Referer: a", b"Referer: b"], host=b"Host: a", other=b"Referer: a")
def test_whatever_came_before_changes_nothing(line: bytes, fields: list[bytes], host: bytes, other: bytes) -> None:
    parser = a_parser()
    known = [
        [b"GET / HTTP/1.1", host, *(other if varies(one) else one for one in fields)],
        [b"GET / HTTP/1.1", host, *(one for one in fields if not varies(one))],
        [b"GET / HTTP/1.1", host, *(one for one in fields if not varies(one)), b"Cookie: b=2", b"Referer: /c"],
    ]
    for _ in range(OFTEN):
        for lines in known:
            with contextlib.suppress(ProtocolError):
                read(parser, b"\r\n".join((*lines, b"", b"")))
    head = b"\r\n".join((line, host, *fields, b"", b""))
    wanted = outcome(a_parser(), head)
    assert [outcome(parser, head) for _ in range(OFTEN)] == [wanted] * OFTEN


def test_a_refusal_is_a_refusal_again() -> None:
    parser = a_parser()
    for _ in range(OFTEN):
        with pytest.raises(ProtocolError):
            read(parser, b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize(
    "field",
    [
        b"COOKIE: session=1",
        b"Cookie: a=1\r\nCookie: b=2",
        b"Referer: a\r\nReferer: b",
        b"Authorization: Basic eDp5",
        b"Content-Length: 3",
        b"X: " + b"x" * LONGEST,
    ],
)
def test_secrets_bodies_and_long_heads_are_not_kept(field: bytes) -> None:
    parser = a_parser()
    for _ in range(OFTEN):
        read(parser, b"GET / HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n")
    assert not parser._memory.heads
    assert not parser._memory.blocks


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b"X-One: 1", b"Content-Length: 3"),
        HEAD.replace(b"X-One: 1", b"Transfer-Encoding: chunked"),
        HEAD.replace(b"X-One: 1", b"Authorization: Basic eDp5"),
        HEAD.replace(b"keep-alive", b"close"),
    ],
)
def test_heads_that_are_never_known_are_not_looked_at_twice(head: bytes) -> None:
    parser = a_parser()
    for _ in range(OFTEN):
        read(parser, head)
    assert not parser._memory._seen


@pytest.mark.parametrize("count", range(1, 7))
def test_what_is_taken_out_of_a_block_counts_among_its_fields(count: int) -> None:
    fields = b"".join(b"X-%d: 1\r\n" % number for number in range(count))
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n"
    parser = a_parser(max_fields=5)
    more = head[:-2] + b"Cookie: a=1\r\nReferer: /\r\n\r\n"
    for _ in range(OFTEN):
        outcome(parser, head)
    assert outcome(parser, more) == outcome(a_parser(max_fields=5), more)
    assert (outcome(parser, more) == 431) == (count + 3 > 5)


def test_a_client_that_varies_its_heads_fills_nothing() -> None:
    parser = a_parser()
    for number in range(3 * KNOWN):
        environ, _ = read(parser, b"GET /%d HTTP/1.1\r\nHost: a\r\nX-Id: %d\r\n\r\n" % (number, number))
        assert (environ["PATH_INFO"], environ["HTTP_X_ID"]) == (f"/{number}", str(number))
    assert not parser._memory.heads
    assert not parser._memory.blocks
    for number in range(3 * KNOWN):
        for _ in range(OFTEN):
            read(parser, b"GET /%d HTTP/1.1\r\nHost: a\r\nX-Id: %d\r\n\r\n" % (number, number))
    assert 0 < len(parser._memory.blocks) <= KNOWN
    assert 0 < len(parser._memory.heads) <= KNOWN
    assert len(parser._memory._seen) <= SEEN


@pytest.mark.parametrize(
    "block, rest, cookie",
    [
        (b"\r\nCookie: a=1; b=2\r\n\r\n", b"\r\n\r\n", "a=1; b=2"),
        (b"\r\nHost: a\r\ncookie: a\r\nX: 1\r\n\r\n", b"\r\nHost: a\r\nX: 1\r\n\r\n", "a"),
        (b"\r\nCookie: a\r\nCookie: b\r\n\r\n", b"\r\nCookie: b\r\n\r\n", "a"),
        (b"\r\nX-Cookie: a\r\n\r\n", b"\r\nX-Cookie: a\r\n\r\n", ""),
        (b"\r\nCookie: \r\n\r\n", b"\r\nCookie: \r\n\r\n", ""),
        (b"\r\nCookie: a\x7f\r\n\r\n", b"\r\nCookie: a\x7f\r\n\r\n", ""),
    ],
)
def test_cookies_are_taken_out_where_that_is_plain(block: bytes, rest: bytes, cookie: str) -> None:
    assert without(block, COOKIE) == (rest, cookie)

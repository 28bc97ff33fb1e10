"""A head that came before is known by heart; that must not show."""

from __future__ import annotations

import pytest

from djworker.http.protocol import KNOWN_HEADS, SEEN_HEADS, HeadParser, ProtocolError, RequestHead

HEAD = b"GET /a%20b?q=1 HTTP/1.1\r\nHost: shop.example\r\nX-One: 1\r\nConnection: close\r\n\r\n"


def read(parser: HeadParser, head: bytes) -> tuple[dict[str, str], RequestHead]:
    environ: dict[str, str] = {"REMOTE_ADDR": "192.0.2.1"}
    request = RequestHead()
    parser.parse(head, environ, request)
    return environ, request


def a_parser() -> HeadParser:
    return HeadParser(max_line=1000, max_fields=10, max_field=1000)


@pytest.mark.parametrize(
    "head",
    [HEAD, HEAD.replace(b"1.1\r\n", b"1.0\r\n"), HEAD.replace(b"GET", b"HEAD"), HEAD.replace(b"/a", b"http://other/a")],
)
def test_the_second_time_means_the_same(head: bytes) -> None:
    parser = a_parser()
    for _ in range(4):
        first, one = read(parser, head)
        first["HTTP_X_ONE"] = "changed by the application"
        second, two = read(parser, head)
        again, _ = read(a_parser(), head)
        assert second == again
        assert (one.method, one.target, one.minor, one.keep_alive) == (
            two.method,
            two.target,
            two.minor,
            two.keep_alive,
        )
    assert head in parser._known


def test_what_an_application_puts_into_its_environ_stays_there() -> None:
    parser = a_parser()
    for _ in range(2):
        read(parser, HEAD)
    mine, _ = read(parser, HEAD)
    mine["secret"] = "s"
    assert "secret" not in read(parser, HEAD)[0]


def test_a_refusal_is_a_refusal_again() -> None:
    parser = a_parser()
    for _ in range(2):
        with pytest.raises(ProtocolError):
            read(parser, b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize("field", [b"Cookie: session=1", b"Authorization: Basic eDp5", b"Content-Length: 3"])
def test_secrets_and_bodies_are_not_kept(field: bytes) -> None:
    parser = a_parser()
    for _ in range(3):
        read(parser, b"GET / HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n")
    assert not parser._known


def test_a_client_that_varies_its_heads_fills_nothing() -> None:
    parser = a_parser()
    for number in range(3 * KNOWN_HEADS):
        environ, _ = read(parser, b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        assert environ["PATH_INFO"] == f"/{number}"
    assert not parser._known
    for number in range(3 * KNOWN_HEADS):
        for _ in range(2):
            read(parser, b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
    assert 0 < len(parser._known) <= KNOWN_HEADS
    assert len(parser._seen) <= SEEN_HEADS

"""Answers without sockets: framing, and the rules of PEP 3333."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from djworker.http.response import HOP_BY_HOP, ResponseError, common_fields, error_response, render
from djworker.http.wsgi import Exchange

TEXT = [("Content-Type", "text/plain")]


class Sink:
    """Keeps what is sent, a send each."""

    def __init__(self, *, persists: bool = True) -> None:
        self.sent: list[bytes] = []
        self.persists = persists

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def send_parts(self, *parts: bytes) -> None:
        self.sent.append(b"".join(parts))

    def send_file(self, head: bytes, file: int, offset: int, count: int) -> int:
        raise NotImplementedError

    def share(self) -> None:
        """There are no others."""

    def may_persist(self) -> bool:
        return self.persists


def run(
    app: Callable[[Any, Any], Any], *, method: str = "GET", minor: int = 1, keep: bool = True
) -> tuple[Exchange, Sink]:
    sink = Sink()
    exchange = Exchange({}, sink, 0.0)
    exchange.method, exchange.minor, exchange.keep_alive = method, minor, keep
    exchange.run(app)
    return exchange, sink


def answering(blocks: Iterable[bytes], headers: list[tuple[str, str]] = TEXT, status: str = "200 OK") -> Any:
    def app(_: Any, start_response: Any) -> Iterable[bytes]:
        start_response(status, headers)
        return blocks

    return app


def parsed(data: bytes) -> tuple[list[str], bytes]:
    """Return the lines of the head, and the body as it was framed."""
    head, _, body = data.partition(b"\r\n\r\n")
    return head.decode("latin-1").split("\r\n"), body


def unchunked(body: bytes) -> bytes:
    found = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        found, end, body = found + body[:length], body[length : length + 2], body[length + 2 :]
        assert end == b"\r\n"
        if not length:
            assert body == b""
            return found


@given(
    blocks=st.lists(st.binary(max_size=5), max_size=5),
    kind=st.sampled_from([list, tuple, iter]),
    announced=st.one_of(st.none(), st.integers(0, 30)),
    method=st.sampled_from(["GET", "HEAD"]),
    status=st.sampled_from(["200 OK", "204 No Content", "304 Not Modified"]),
    minor=st.sampled_from([0, 1]),
    keep=st.booleans(),
)
def test_every_answer_has_one_framing_and_it_is_true(
    *, blocks: list[bytes], kind: Any, announced: int | None, method: str, status: str, minor: int, keep: bool
) -> None:
    headers = TEXT if announced is None else [*TEXT, ("Content-Length", str(announced))]
    exchange, sink = run(answering(kind(blocks), headers, status), method=method, minor=minor, keep=keep)
    lines, body = parsed(b"".join(sink.sent))
    fields = dict(line.split(": ", 1) for line in lines[1:])
    assert len(fields) == len(lines) - 1
    content = b"".join(blocks)
    bodiless = method == "HEAD" or status[:3] in {"204", "304"}
    if bodiless:
        assert body == b""
        assert "Transfer-Encoding" not in fields
        assert not (status[:3] == "204" and "Content-Length" in fields)
    elif fields.get("Transfer-Encoding") == "chunked":
        assert minor == 1
        assert "Content-Length" not in fields
        assert unchunked(body) == content
    elif "Content-Length" in fields:
        length = int(fields["Content-Length"])
        assert body == content[:length]
        # A length that was not kept leaves the client waiting, or with bytes too many, unless the connection ends.
        assert length == len(content) or not exchange.persists
    else:
        assert not exchange.persists
        assert body == content
    assert exchange.persists <= keep
    if fields.get("Connection") == "keep-alive":
        assert exchange.persists or announced != len(content)
    if minor == 0 and exchange.persists:
        assert fields["Connection"] == "keep-alive"
    if fields.get("Connection") == "close":
        assert not exchange.persists
    assert exchange.sent == len(b"" if bodiless else content[:announced])


def test_the_usual_answer_leaves_in_one_send() -> None:
    for headers in (TEXT, [*TEXT, ("Content-Length", "6")]):
        _, sink = run(answering([b"abc", b"def"], headers))
        assert len(sink.sent) == 1


def test_a_django_response_leaves_in_one_send_with_a_length() -> None:
    class Response:
        streaming = False
        closed = False

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"abc", b"def"])

        def close(self) -> None:
            self.closed = True

    response = Response()
    _, sink = run(answering(response))
    assert len(sink.sent) == 1
    assert b"Content-Length: 6\r\n" in sink.sent[0]
    assert response.closed


def test_nothing_is_sent_before_the_first_block() -> None:
    sink = Sink()
    exchange = Exchange({}, sink, 0.0)

    def blocks() -> Iterator[bytes]:
        assert sink.sent == []
        yield b""
        assert sink.sent == []
        yield b"a"
        assert len(sink.sent) == 1

    exchange.run(answering(blocks()))
    assert len(sink.sent) == 2


def test_head_does_not_read_a_stream_to_its_end() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x"

    _, sink = run(answering(endless()), method="HEAD")
    assert sink.sent[0].endswith(b"\r\n\r\n")


def test_close_is_called_whatever_happens() -> None:
    class Failing:
        closed = 0

        def __iter__(self) -> Iterator[bytes]:
            raise RuntimeError("failed")

        def close(self) -> None:
            self.closed += 1

    failing = Failing()
    with pytest.raises(RuntimeError, match="failed"):
        run(answering(failing))
    assert failing.closed == 1


def test_start_response_after_the_end_is_refused() -> None:
    kept: list[Any] = []

    def app(_: Any, start_response: Any) -> list[bytes]:
        kept.append(start_response)
        kept.append(start_response("200 OK", TEXT))
        return [b"a"]

    _, sink = run(app)
    sent = list(sink.sent)
    with pytest.raises(ResponseError):
        kept[1](b"late")
    with pytest.raises(ResponseError):
        kept[0]("200 OK", TEXT)
    assert sink.sent == sent


def test_exc_info_before_the_head_replaces_and_after_it_raises() -> None:
    error = RuntimeError("reported")
    exc_info = (RuntimeError, error, None)

    def early(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [*TEXT, ("Content-Length", "100")])
        start_response("500 Sorry", TEXT, exc_info)
        return [b"sorry"]

    exchange, sink = run(early)
    assert exchange.status == "500 Sorry"
    assert b"Content-Length: 5\r\n" in sink.sent[0]

    def late(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", TEXT)(b"begun")
        start_response("500 Sorry", TEXT, exc_info)
        return []

    with pytest.raises(RuntimeError, match="reported"):
        run(late)


@given(name=st.text(max_size=6), value=st.text(max_size=8))
@example(name="TE", value="\u0100")
def test_no_field_can_add_a_line(name: str, value: str) -> None:
    try:
        lines, _, _ = render("200 OK", [(name, value)])
    except ResponseError:
        return
    dropped = name.lower() in HOP_BY_HOP
    assert lines.encode("latin-1").split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        *([] if dropped else [f"{name}: {value}".encode("latin-1")]),
        b"",
    ]
    assert not set(lines) & {chr(code) for code in range(0x20) if code not in {9, 10, 13}}
    assert lines.count("\r") == lines.count("\n") == (1 if dropped else 2)


def test_caches_of_names_and_statuses_are_bounded() -> None:
    from djworker.http import response

    for number in range(response.CACHED * 2):
        render(f"299 Reason {number}", [(f"X-{number}", "a"), ("Vary", f"X-{number}")])
    assert len(response._status_lines) <= response.CACHED
    assert len(response._meanings) <= response.CACHED
    assert 0 < len(response._lines) <= response.CACHED


def test_only_lasting_fields_are_known_by_heart() -> None:
    from djworker.http import response

    fields = [
        ("Set-Cookie", "session=1"),
        ("X-Token", "t"),
        ("Vary", "X" * response.LASTING_LENGTH + "X"),
        ("Allow", "GET"),
    ]
    before = set(response._lines)
    assert render("200 OK", fields) == render("200 OK", fields)
    assert set(response._lines) - before <= {("Allow", "GET")}


@pytest.mark.parametrize("field", [("Content-Length", "5"), ("content-length", "5"), ("Date", "d"), ("SERVER", "s")])
def test_a_field_that_is_known_by_heart_means_the_same(field: tuple[str, str]) -> None:
    first = render("200 OK", [field])
    assert render("200 OK", [field]) == first
    assert first != render("200 OK", [("Allow", "GET")])
    if field[0].lower() == "content-length":
        with pytest.raises(ResponseError):
            render("200 OK", [field, ("Content-Length", "6")])
        with pytest.raises(ResponseError):
            render("200 OK", [field, field])


def test_the_date_is_the_second_that_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for moment, date in ((1_000_000_000.9, b"01:46:40"), (1_000_000_001.0, b"01:46:41"), (999_999_999.5, b"01:46:39")):
        monkeypatch.setattr("djworker.http.response.time", lambda moment=moment: moment)
        assert date in common_fields().encode()


def test_the_servers_own_answers() -> None:
    lines, body = parsed(error_response(431))
    assert lines[0] == "HTTP/1.1 431 Request Header Fields Too Large"
    assert f"Content-Length: {len(body)}" in lines
    assert "Connection: close" in lines
    assert parsed(error_response(500, body=False))[1] == b""


def test_a_field_may_be_any_pair() -> None:
    """PEP 3333 says tuples; applications that give lists have always been served."""
    fields = [("Content-Type", "text/plain"), ("X-A", "b"), ("Content-Length", "2")]
    as_lists: Any = [list(field) for field in fields]
    for _ in range(2):  # cached the second time
        assert render("200 OK", as_lists) == render("200 OK", fields)

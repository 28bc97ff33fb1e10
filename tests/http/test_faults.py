"""Applications that break, and clients that vanish."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest

from tests.http.client import HOST, Broken, Client, eventually
from tests.http.conftest import Served

Start = Callable[..., Served]


def request(path: str) -> bytes:
    return b"GET " + path.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.mark.parametrize("point", ["call", "first", "exit", "timeout"])
def test_failing_before_the_head_is_500_and_a_traceback(serve: Start, point: str) -> None:
    server = serve()
    with server.connect() as client:
        answer = client.get(f"/fail?at={point}")
        assert (answer.status, answer.headers["connection"]) == (500, "close")
        assert client.closed()
    event = server.event("request_failed")
    assert (event["method"], event["url"]) == ("GET", f"/fail?at={point}")
    assert "apps.py" in event["traceback"]
    assert server.gauges()["closed"] == (point == "first")


def test_500_to_head_has_no_body(serve: Start) -> None:
    server = serve()
    with server.connect() as client:
        assert client.get("/fail", method=b"HEAD").status == 500
        assert client.closed()
    server.event("request_failed")


@pytest.mark.parametrize("path", ["/fail?at=second", "/fail?at=reported", "/fail?at=second&length=1"])
def test_failing_after_the_head_cuts_the_answer(serve: Start, path: str) -> None:
    server = serve()
    with server.connect() as client, pytest.raises((Broken, ConnectionResetError)):
        client.get(path)
    assert "RuntimeError: failed at" in server.event("request_failed")["traceback"]
    assert server.gauges()["closed"] == 1


def test_http_1_0_sees_a_reset_where_the_answer_was_cut(serve: Start) -> None:
    server = serve()
    with server.connect() as client:
        client.send(b"GET /fail?at=second HTTP/1.0\r\n\r\n")
        assert client.reset()
    server.event("request_failed")


def test_failing_close_does_not_spoil_the_answer(serve: Start) -> None:
    server = serve()
    with server.connect() as client:
        assert client.get("/fail?at=close").body == b"answered"
        assert client.get("/hello").status == 200
    assert "failed at close" in server.event("request_failed")["traceback"]


BREACHES = [
    "rule=status&status=200",
    "rule=status&status=100 Continue",
    "rule=status&status=OK",
    "rule=status&status=" + quote("200 OK\r\nX-Evil: 1"),
    "rule=type",
    "rule=text",
    "rule=text block",
    "rule=none",
    "rule=unstarted",
    "rule=twice",
    *(
        "header=" + quote(header)
        for header in (
            "X-A:b\r\nX-Evil: 1",
            "X-A:b\nX-Evil: 1",
            "X-A:b\rX-Evil: 1",
            "X-A:b\0",
            "X-A:b\x7f",
            "X-A:日本",
            "X A:b",
            "X-A\r\nX-Evil:b",
            "X-É:b",
            "Content-Length:-1",
            "Content-Length:+4",
            "Content-Length:4, 4",
            "Content-Length:x",
            "Content-Length:²",
        )
    ),
]


@pytest.mark.parametrize("breach", BREACHES)
def test_breaches_of_wsgi_are_failures_and_never_reach_the_client(breaches: Served, breach: str) -> None:
    with breaches.connect() as client:
        answer = client.get("/broken?" + breach.replace(" ", "%20"))
        assert answer.status == 500
        assert b"Evil" not in answer.head
    assert "ResponseError" in breaches.event("request_failed")["traceback"] or breach == "rule=none"


HOP_BY_HOP = [
    "Connection:keep-alive",
    "connection:close",
    "Keep-Alive:5",
    "Transfer-Encoding:chunked",
    "TE:trailers",
    "Trailer:X",
    "Upgrade:h2c",
    "proxy-authenticate:x",
]


def test_fields_of_the_connection_are_dropped_with_one_warning(serve: Start) -> None:
    """A view of server-sent events says Connection: keep-alive under most servers."""
    server = serve()
    with server.connect() as client:
        for header in HOP_BY_HOP * 3:
            answer = client.get("/broken?header=" + quote(header))
            assert (answer.status, answer.body) == (200, b"body")
            assert not {"connection", header.partition(":")[0].lower()} & set(answer.headers)
    told = [server.event("field_dropped")["field"] for _ in HOP_BY_HOP[1:]]
    assert told == [header.partition(":")[0] for header in HOP_BY_HOP if header != "connection:close"]
    assert server.events.empty()


@pytest.fixture(scope="module")
def breaches() -> Iterator[Served]:
    server = Served()
    yield server
    server.stop()


@pytest.mark.parametrize("blocks", ["", "&blocks=1"])
def test_too_short_an_answer_ends_the_connection(serve: Start, blocks: str) -> None:
    server = serve()
    with server.connect() as client, pytest.raises(Broken) as broken:
        client.get(f"/length?announced=10&given=6{blocks}")
    assert broken.value.args[0] == b"xxxxxx"
    assert server.event("response_broken")["url"].startswith("/length")


@pytest.mark.parametrize("blocks", ["", "&blocks=1"])
def test_too_long_an_answer_is_cut_and_ends_the_connection(serve: Start, blocks: str) -> None:
    server = serve()
    with server.connect() as client:
        assert client.get(f"/length?announced=4&given=6{blocks}").body == b"xxxx"
        assert client.closed()
    server.event("response_broken")


def vanish(client: Client) -> None:
    """Close with a reset."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()


@pytest.mark.parametrize("leave", [vanish, lambda client: client.socket.close()])
def test_clients_that_leave_within_an_answer(serve: Start, leave: Callable[[Client], None]) -> None:
    server = serve()
    for _ in range(30):
        client = server.connect(receive_buffer=4096)
        client.send(request("/big?mib=8"))
        client.until(b"\r\n\r\n")
        leave(client)
    eventually(lambda: server.gauges()["closed"] == 30, "every close() called")
    # Served.stop checks the rest: no connection, no descriptor, no traceback.


@pytest.mark.parametrize("leave", [vanish, lambda client: client.socket.close()])
def test_clients_that_leave_within_a_body(serve: Start, leave: Callable[[Client], None]) -> None:
    server = serve()
    for framing in (b"Content-Length: 100\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"):
        for path in (b"/echo", b"/tolerate"):
            client = server.connect()
            client.send(b"POST " + path + b" HTTP/1.1\r\n" + HOST + framing)
            eventually(lambda: "reading the body" in str(server.command("flight")))
            leave(client)
            eventually(lambda: server.gauges()["open"] == 0)


def test_a_half_closed_client_gets_its_answer(serve: Start) -> None:
    server = serve()
    with server.connect() as client:
        client.send(request("/hello"))
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer().body == b"Hello, World!"
        assert client.closed()


def test_a_killed_request_ends_its_connection_alone(serve: Start) -> None:
    server = serve()
    with server.connect() as killed, server.connect() as other:
        killed.send(request("/wait?gate=never"))
        eventually(lambda: server.gauges()["started"] == 1)
        assert server.command("flight") == [["GET", "/wait?gate=never", _name(killed), "running"]]
        server.command("kill /wait")
        assert killed.closed()
        assert other.get("/hello").status == 200


def _name(client: Client) -> str:
    host, port = client.socket.getsockname()
    return f"{host}:{port}"


def test_a_unix_socket_has_an_address_for_its_peer(serve: Start, tmp_path_factory: pytest.TempPathFactory) -> None:
    server = serve(unix=str(tmp_path_factory.mktemp("s") / "s"))
    with server.connect() as client:
        assert client.get("/hello").status == 200
        assert b'"REMOTE_ADDR": "127.0.0.1"' in client.get("/environ").body

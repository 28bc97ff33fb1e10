"""Bodies on their way in."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable

import pytest

from tests.http.client import HOST, eventually
from tests.http.conftest import Served

Start = Callable[..., Served]
POST = b"POST %b HTTP/1.1\r\n" + HOST
EXPECT = b"Expect: 100-continue\r\n"
LINES = b"abcdef\nxyz\n1\n\n2\nlast"


def chunked(body: bytes, size: int) -> bytes:
    blocks = [body[place : place + size] for place in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(block), block) for block in blocks) + b"0\r\nX-Trailer: 1\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 70_000])
def test_chunked_bodies_arrive_whole(serve: Start, size: int) -> None:
    server = serve()
    body = bytes(index % 256 for index in range(700 if size == 1 else 1_500_000))
    with server.connect() as client:
        client.send(POST % b"/digest" + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, size))
        assert client.answer().body.decode() == f"{len(body)} {hashlib.sha256(body).hexdigest()} -"
        assert client.get("/hello").status == 200


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_all_ways_to_read(serve: Start, framing: str) -> None:
    server = serve()
    with server.connect() as client:
        if framing == "length":
            answer = client.post("/reads", LINES)
        else:
            client.send(POST % b"/reads" + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(LINES, 2))
            answer = client.answer()
        assert eval(answer.body) == [b"abc", b"def\n", b"xy", b"z\n", b"1\n", b"\n", b"2\n", b"last", b""]


def test_100_continue_is_sent_when_the_body_is_read(serve: Start) -> None:
    server = serve()
    with server.connect() as client:
        client.send(POST % b"/read-later" + EXPECT + b"Content-Length: 5\r\n\r\n")
        eventually(lambda: server.gauges()["started"] == 1)
        client.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.socket.recv(1)
        client.socket.setblocking(True)
        server.command("open read")
        assert client.answer().status == 100
        client.send(b"12345")
        assert client.answer().body == b"5"
        assert client.get("/hello").status == 200


def test_100_continue_to_chunks(serve: Start) -> None:
    server = serve()
    with server.connect() as client:
        client.send(POST % b"/echo" + EXPECT + b"Transfer-Encoding: chunked\r\n\r\n")
        assert client.answer().status == 100
        client.send(b"1\r\na\r\n0\r\n\r\n")
        assert client.answer().body == b"a"


def test_no_100_where_the_body_came_by_itself(serve: Start) -> None:
    server = serve()
    with server.connect() as client:
        assert client.post("/echo", b"abc", EXPECT).body == b"abc"


def test_no_100_where_nobody_reads_and_then_no_other_request(serve: Start) -> None:
    server = serve()
    with server.connect() as client:
        client.send(POST % b"/ignore" + EXPECT + b"Content-Length: 5\r\n\r\n")
        answer = client.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.closed()


def test_a_refused_body_is_not_asked_for(serve: Start) -> None:
    server = serve(limit_request_body=10)
    with server.connect() as client:
        client.send(POST % b"/echo" + EXPECT + b"Content-Length: 11\r\n\r\n")
        assert client.answer().status == 413


@pytest.mark.parametrize("path", [b"/echo", b"/tolerate", b"/digest"])
def test_a_chunked_body_beyond_the_limit_is_413(serve: Start, path: bytes) -> None:
    server = serve(limit_request_body=10)
    with server.connect() as client:
        client.send(POST % path + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"x" * 11, 3))
        answer = client.answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert client.closed()


@pytest.mark.parametrize("path", [b"/echo", b"/tolerate"])
def test_a_broken_body_is_400_whatever_the_application_says(serve: Start, path: bytes) -> None:
    server = serve()
    with server.connect() as client:
        client.send(POST % path + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n")
        assert client.answer().status == 400
        assert client.closed()


def test_unread_bodies_are_skipped(serve: Start) -> None:
    server = serve()
    with server.connect() as client:
        for body in (b"x", b"GET / HTTP/1.1\r\n\r\n", b"x" * 60_000):
            assert client.post("/ignore", body).body == b"ignored"
            client.send(POST % b"/ignore" + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, 1000))
            assert client.answer().body == b"ignored"


def test_long_unread_bodies_end_the_connection_after_the_answer(serve: Start) -> None:
    server = serve()
    with server.connect() as client:
        # More than the socket buffers: the client is still sending when it is answered, and must not see a reset.
        answer = client.post("/ignore", b"x" * 3_000_000)
        assert (answer.body, answer.headers["connection"]) == (b"ignored", "close")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.closed()


def test_413_reaches_a_client_that_is_still_sending(serve: Start) -> None:
    server = serve(limit_request_body=1000)
    with server.connect() as client:
        assert client.post("/echo", b"x" * 3_000_000).status == 413


def test_the_input_ends_with_its_request(serve: Start) -> None:
    server = serve()
    with server.connect() as client:
        assert client.post("/keep-input", b"secret").body == b"first"
        assert client.post("/keep-input", b"other").body == b""


def test_nothing_is_read_ahead_of_the_application(serve: Start) -> None:
    server = serve(alone=True)
    size = 64 << 20
    with server.connect() as client:
        client.send(POST % b"/read-later" + b"Content-Length: %d\r\n\r\n" % size)
        eventually(lambda: server.gauges()["started"] == 1)
        before = server.gauges()["rss"]
        client.socket.setblocking(False)
        sent = 0
        block = b"x" * 65_536

        def stuck() -> bool:
            nonlocal sent
            try:
                while True:
                    sent += client.socket.send(block)
            except BlockingIOError:
                return server.gauges()["rss"] - before > 0 or True

        eventually(stuck)
        assert sent < size // 2, "the server took the body although nobody read it"
        assert server.gauges()["rss"] - before < 2048
        client.socket.setblocking(True)
        server.command("open read")
        while sent < size:
            sent += client.socket.send(block[: size - sent])
        assert client.answer().body == b"%d" % size
        assert server.gauges()["rss"] - before < 8192


def test_a_large_chunked_body_does_not_stay_in_memory(serve: Start) -> None:
    server = serve(alone=True)
    body = b"x" * (32 << 20)
    with server.connect() as client:
        before = server.gauges()["rss"]
        client.send(POST % b"/digest" + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, 1 << 16))
        assert client.answer().body.startswith(b"%d " % len(body))
        assert server.gauges()["rss"] - before < 8192


@pytest.mark.parametrize("path", ["/single", "/single?thread=1"])
def test_a_body_can_be_read_byte_by_byte(shared: Served, path: str) -> None:
    with shared.connect() as client:
        assert client.post(path, b"x" * 20_000).body == b"20000"

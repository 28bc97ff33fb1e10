"""Who holds a permit, who waits, and for how long; what an early answer needs to arrive."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from tests.http.client import HOST, Client, eventually
from tests.http.conftest import Served

Start = Callable[..., Served]
POST = b"POST %b HTTP/1.1\r\n" + HOST


def request(path: str) -> bytes:
    return b"GET " + path.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n"


def occupied(server: Served) -> Client:
    """A request that holds the only permit."""
    client = server.connect()
    client.send(request("/wait"))
    eventually(lambda: server.gauges()["started"] == 1)
    return client


@pytest.mark.parametrize("kept", [True, False])
def test_a_request_that_cannot_begin_is_503_and_told_when_to_come_again(serve: Start, *, kept: bool) -> None:
    server = serve(worker_connections=1, queue_timeout=0.3)
    with server.connect() as client:
        if kept:
            assert client.get("/hello").status == 200
        with occupied(server) as other:
            answer = client.get("/hello")
            assert (answer.status, answer.headers["connection"]) == (503, "close")
            assert int(answer.headers["retry-after"]) > 0
            server.command("open wait")
            assert other.answer().body == b"waited"


def test_what_waited_too_long_for_a_blocked_hub_is_503(serve: Start) -> None:
    server = serve(queue_timeout=0.2)
    clients = [server.connect() for _ in range(3)]
    for client in clients:
        assert client.get("/hello").status == 200
    with server.connect() as waiting:
        waiting.send(request("/wait"))
        eventually(lambda: server.gauges()["started"] == 1)
        with server.suspended():
            for client in clients:
                client.send(request("/stall?s=0.4"))
        assert {client.answer().status for client in clients} == {200, 503}
        server.command("open wait")
        assert waiting.answer().status == 200
    for client in clients:
        client.socket.close()


def test_health_checks_pass_an_overloaded_worker(serve: Start) -> None:
    server = serve(worker_connections=1, health_paths=["/hello"])
    with occupied(server) as other, server.connect() as client:
        assert client.get("/hello?full=1").status == 200
        server.command("open wait")
        assert other.answer().body == b"waited"


@pytest.mark.parametrize("length", [100, 1_000_000], ids=["short", "long"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_that_is_still_coming_holds_no_permit(serve: Start, length: int, framing: str) -> None:
    server = serve(worker_connections=1)
    with server.connect() as slow, server.connect() as other:
        head = b"Content-Length: %d\r\n\r\n" % length if framing == "length" else b"Transfer-Encoding: chunked\r\n\r\n"
        slow.send(POST % b"/digest" + head)
        eventually(lambda: "reading the body" in str(server.command("flight")))
        assert server.gauges()["running"] == 0
        assert other.get("/hello").status == 200
        body = b"x" * length
        slow.send(body if framing == "length" else b"%x\r\n%b\r\n0\r\n\r\n" % (length, body))
        assert slow.answer().body.startswith(b"%d " % length)
        assert slow.get("/hello").status == 200
    assert server.gauges()["running"] == 0


def test_a_server_and_its_connections_show_themselves_to_a_debugger(serve: Start) -> None:
    server = serve()
    with server.connect() as client:
        client.send(request("/wait"))
        eventually(lambda: server.gauges()["running"] == 1)
        shown = server.command("show")
        assert shown == [
            "<server: 1 running, 0 queued, 1 connections>",
            "<connection of 127.0.0.1, running, GET /wait>",
        ]
        server.command("open wait")
        assert client.answer().body == b"waited"


def test_a_short_body_begins_only_when_it_is_complete(serve: Start) -> None:
    server = serve(worker_connections=1)
    with server.connect() as slow:
        slow.send(POST % b"/read-later" + b"Content-Length: 10\r\n\r\n12345")
        eventually(lambda: "reading the body" in str(server.command("flight")))
        assert server.gauges()["started"] == 0
        slow.send(b"67890")
        eventually(lambda: server.gauges()["started"] == 1)
        server.command("open read")
        assert slow.answer().body == b"10"


def test_a_request_that_waits_once_more_is_noted_with_its_id(serve: Start) -> None:
    server = serve(worker_connections=1, request_id="log", noted=True)
    with server.connect() as slow:
        slow.send(POST % b"/digest" + b"Content-Length: 10\r\n\r\n12345")
        eventually(lambda: "reading the body" in str(server.command("flight")))
        [noted] = server.command("noted")
        assert noted.startswith("POST /digest HTTP/1.1\r\nX-Request-ID: ")
        with occupied(server) as other:
            slow.send(b"67890")
            eventually(lambda: "waiting for its turn" in str(server.command("flight")))
            assert noted in server.command("noted")
            server.command("open wait")
            assert other.answer().body == b"waited"
        assert slow.answer().body.startswith(b"10 ")
    assert server.gauges()["running"] == 0


def test_an_answer_that_is_not_read_holds_no_permit(serve: Start) -> None:
    server = serve(worker_connections=1)
    with server.connect(receive_buffer=4096) as deaf, server.connect() as other:
        deaf.send(request("/big?mib=16"))
        eventually(lambda: "writing" in str(server.command("flight")))
        assert server.gauges()["running"] == 0
        assert other.get("/hello").status == 200
        assert len(deaf.answer().body) == 16 << 20


def test_a_killed_wait_for_a_client_gives_no_permit_away(serve: Start) -> None:
    server = serve(worker_connections=1)
    with server.connect() as slow, server.connect() as other:
        slow.send(POST % b"/digest" + b"Content-Length: 1000000\r\n\r\n")
        eventually(lambda: "reading the body" in str(server.command("flight")))
        server.command("kill digest")
        assert slow.closed()
        assert other.get("/hello").status == 200
    assert server.gauges()["running"] == 0


def test_a_body_has_a_deadline_as_a_whole(serve: Start) -> None:
    server = serve(upload_timeout=0.3)
    with server.connect() as slow:
        slow.send(POST % b"/echo" + b"Content-Length: 1000000\r\n\r\n")
        slow.socket.settimeout(0.02)
        while True:
            slow.send(b"x" * 1000)
            try:
                slow.more()
            except TimeoutError:
                continue
            break
        assert slow.received.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("mib", [8, 30])
@pytest.mark.parametrize("path", [b"/ignore", b"/too-long"])
def test_early_answers_to_large_uploads_arrive(serve: Start, mib: int, path: bytes) -> None:
    server = serve(limit_request_body=(64 << 20) if path == b"/ignore" else 1000)
    for _ in range(3):
        with server.connect() as client:
            # All of it is sent before the answer is read, as most clients do.
            status = client.post(path.decode(), b"x" * (mib << 20)).status
            assert status == (200 if path == b"/ignore" else 413)
            client.socket.shutdown(socket.SHUT_WR)
            assert client.closed()


def test_a_client_that_leaves_within_its_body_gets_400(serve: Start) -> None:
    server = serve()
    for framing in (b"Content-Length: 100", b"Content-Length: 1000000", b"Transfer-Encoding: chunked"):
        with server.connect() as client:
            client.send(POST % b"/tolerate" + framing + b"\r\n\r\n3\r\nabc")
            client.socket.shutdown(socket.SHUT_WR)
            assert client.answer().status == 400


@pytest.mark.parametrize("after, last", [("0", "writing"), ("0.1", "reading the body")])
def test_a_body_is_read_while_its_answer_is_written(serve: Start, after: str, last: str) -> None:
    """By another greenlet of the application's: the connection waits for its client in two ways at once."""
    server = serve()
    with server.connect(receive_buffer=4096) as client:
        client.send(POST % (b"/duplex?after=" + after.encode()) + b"Content-Length: 200000\r\n\r\n")
        eventually(lambda: last in str(server.command("flight")))
        client.send(b"x" * 200_000)
        answer = client.answer()
        assert (answer.status, answer.body[-7:]) == (200, bytes(1) + b"200000")
    assert server.gauges()["running"] == 0


@pytest.mark.parametrize("sent", [0, 50_000], ids=["none", "half"])
def test_a_greenlet_that_still_reads_when_all_is_answered_keeps_no_permit(serve: Start, sent: int) -> None:
    """The connection ends, for what comes on it may be the rest of the body."""
    server = serve(worker_connections=1)
    for _ in range(3):
        with server.connect() as client:
            client.send(POST % b"/abandon" + b"Content-Length: 100000\r\n\r\n" + b"x" * sent)
            assert client.answer().body == b"Hello, World!"
            assert client.closed()
    server.command("collect")
    assert server.gauges()["running"] == 0
    with server.connect() as client:
        assert client.get("/hello").status == 200


def test_a_greenlet_that_lets_others_have_their_turn_takes_no_permit_of_the_next_request(serve: Start) -> None:
    """It has read all of the body, so the connection is kept, and idle when it goes on."""
    server = serve(worker_connections=1)
    with server.connect() as client:
        for _ in range(3):
            # The last of these chunks are in the seventh piece of the body, and the server looks at the time from the sixth on.
            chunks = b"1\r\nx\r\n" * 555 + b"0\r\n\r\n"
            client.send(POST % b"/outlive?first=450" + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
            assert client.answer().body == b"Hello, World!"
            assert server.gauges()["running"] == 0

"""Slow clients, idle ones, many of them, and the end of a worker."""

from __future__ import annotations

import contextlib
import json
import resource
import time
from collections.abc import Callable
from functools import partial

import pytest

from tests.http.client import HOST, Client, eventually
from tests.http.conftest import Served

Start = Callable[..., Served]
NEVER = 1000.0


def request(path: str, fields: bytes = b"") -> bytes:
    return b"GET " + path.encode() + b" HTTP/1.1\r\n" + HOST + fields + b"\r\n"


def patient(**options: float) -> dict[str, float]:
    """Return options with one deadline that can pass within a test.

    A test that does something before its deadline has a second for it: the machine is busy.
    """
    return dict.fromkeys(("header_timeout", "body_timeout", "write_timeout", "keep_alive"), NEVER) | options


@pytest.mark.parametrize("begun", [b"G", b"GET / HTTP/1.1\r\n", request("/")[:-1]])
def test_half_a_head_is_408(serve: Start, begun: bytes) -> None:
    server = serve(**patient(header_timeout=0.3))
    with server.suspended():
        client = server.connect()
        client.send(begun)
    with client:
        answer = client.answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert client.closed()


def trickle(client: Client, byte: bytes) -> bytes:
    """Send a byte now and then until the server answers; return the answer's beginning."""
    client.socket.settimeout(0.05)
    for _ in range(400):
        client.send(byte)
        with contextlib.suppress(TimeoutError):
            client.more()
            return client.received
    pytest.fail("the server listened for ever")


def test_a_head_by_the_byte_has_one_deadline(serve: Start) -> None:
    server = serve(**patient(header_timeout=0.5))
    with server.suspended():
        client = server.connect()
        client.send(b"G")
    with client:
        assert trickle(client, b"G").startswith(b"HTTP/1.1 408")


def test_a_connection_without_a_request_ends_silently(serve: Start) -> None:
    server = serve(**patient(header_timeout=0.3))
    with server.connect() as client:
        assert client.rest() == b""


def test_half_a_head_on_a_kept_connection(serve: Start) -> None:
    server = serve(**patient(header_timeout=1.0))
    with server.connect() as client:
        assert client.get("/hello").status == 200
        client.send(b"GET / HT")
        assert client.answer().status == 408


@pytest.mark.parametrize("path", [b"/echo", b"/tolerate"])
@pytest.mark.parametrize(
    "begun",
    [b"Content-Length: 10\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"],
    ids=["length", "chunked"],
)
def test_half_a_body_is_408(serve: Start, path: bytes, begun: bytes) -> None:
    server = serve(**patient(body_timeout=0.3))
    with server.connect() as client:
        client.send(b"POST " + path + b" HTTP/1.1\r\n" + HOST + begun)
        answer = client.answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert client.closed()


def test_a_body_slower_than_the_minimum_rate_is_408(serve: Start) -> None:
    server = serve(**patient(body_timeout=0.4))
    with server.connect() as client:
        client.send(b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\n\r\n")
        assert trickle(client, b"x").startswith(b"HTTP/1.1 408")


def test_a_slow_body_within_the_rules_is_served(serve: Start) -> None:
    server = serve(**patient(body_timeout=2))
    with server.connect() as client:
        client.send(b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n")
        for _ in range(5):
            time.sleep(0.1)  # the pause is what is tested
            client.send(b"x")
        assert client.answer().body == b"xxxxx"


# The blocks fill the kernel's buffers, which are some MB: were they short ones, that would take 20 s on a busy machine.
@pytest.mark.parametrize("path", ["/big?mib=16", "/file?size=16000000", "/stream?n=100000000&more=4000"])
def test_a_client_that_never_reads_is_reset(serve: Start, path: str) -> None:
    server = serve(**patient(write_timeout=0.3))
    with server.connect(receive_buffer=4096) as client:
        client.send(request(path))
        eventually(lambda: server.gauges()["closed"] == 1, "the answer given up")
        eventually(lambda: server.gauges()["open"] == 0)
        assert client.reset()


def test_a_client_that_reads_slowly_gets_everything(serve: Start) -> None:
    server = serve(**patient(write_timeout=2))
    with server.connect(receive_buffer=4096) as client:
        client.send(request("/big?mib=2"))
        time.sleep(0.5)  # the pause is what is tested
        assert len(client.answer().body) == 2 << 20


def test_idle_connections_expire(serve: Start) -> None:
    server = serve(**patient(keep_alive=0.3))
    with server.connect() as client:
        assert client.get("/hello").status == 200
        assert client.rest() == b""


def test_no_keep_alive(serve: Start) -> None:
    server = serve(**patient(keep_alive=0))
    with server.connect() as client:
        assert client.get("/hello").headers["connection"] == "close"
        assert client.closed()


def test_a_running_request_has_no_deadline(serve: Start) -> None:
    server = serve(header_timeout=0.8, body_timeout=0.2, write_timeout=0.2, keep_alive=0.2)
    with server.connect() as client:
        client.send(request("/wait"))
        time.sleep(1.2)  # longer than all of them
        server.command("open wait")
        assert client.answer().body == b"waited"


def test_idle_connections_give_their_greenlets_back_and_go_on(serve: Start) -> None:
    server = serve(**patient())
    clients = [server.connect() for _ in range(20)]
    for _ in range(2):
        for client in clients:
            assert client.get("/hello").status == 200
        eventually(lambda: server.gauges()["greenlets"] <= server.base["greenlets"], "greenlets given back")
        assert server.gauges()["idle"] == len(clients)
    clients.pop().socket.close()
    eventually(lambda: server.gauges()["open"] == len(clients), "a suspended connection's end noticed")
    server.command("drain")
    answer = clients[0].get("/hello")
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    for client in clients:
        assert client.rest() == b""
        client.socket.close()


def test_a_dozing_connection_expires(serve: Start) -> None:
    server = serve(**patient(keep_alive=3.0))
    with server.connect() as client:
        assert client.get("/hello").status == 200
        eventually(lambda: server.gauges()["greenlets"] <= server.base["greenlets"])
        assert client.rest() == b""


# --- permits


def test_no_more_run_than_permits(serve: Start) -> None:
    server = serve(worker_connections=3, **patient())
    clients = [server.connect() for _ in range(10)]
    for client in clients:
        client.send(request("/wait"))
    eventually(lambda: server.gauges()["started"] == 3)
    assert server.gauges()["running"] == 3
    server.command("open wait")
    assert [client.answer().body for client in clients] == [b"waited"] * 10
    assert server.gauges()["most"] == 3
    for client in clients:
        client.socket.close()


def test_idle_connections_hold_no_permit(serve: Start) -> None:
    server = serve(worker_connections=2, **patient())
    idle = [server.connect() for _ in range(20)]
    for client in idle:
        assert client.get("/hello").status == 200
    gauges = server.gauges()
    assert (gauges["idle"], gauges["running"], gauges["open"]) == (20, 0, 20)
    # All of them again, at once: they wait for their turn.
    for client in idle:
        client.send(request("/hello"))
    assert [client.answer().status for client in idle] == [200] * 20
    for client in idle:
        client.socket.close()


def test_a_woken_connection_waits_for_its_permit(serve: Start) -> None:
    server = serve(worker_connections=1, **patient())
    with server.connect() as kept, server.connect() as other:
        assert kept.get("/hello").status == 200
        other.send(request("/wait"))
        eventually(lambda: server.gauges()["started"] == 1)
        kept.send(request("/hello"))
        eventually(lambda: "waiting for its turn" in str(server.command("flight")))
        server.command("open wait")
        assert other.answer().status == kept.answer().status == 200


def test_slow_heads_do_not_keep_others_out(serve: Start) -> None:
    server = serve(worker_connections=4, **patient())
    slow = [server.connect() for _ in range(12)]
    for number, client in enumerate(slow):
        client.send(request("/hello")[: 10 * (number % 2)])
    with server.connect() as client:
        assert client.get("/hello").status == 200
    for client in slow:
        client.socket.close()


def test_greedy_clients_leave_room_for_a_new_one(serve: Start) -> None:
    server = serve(worker_connections=2, **patient())
    greedy = [server.connect() for _ in range(6)]
    for client in greedy:
        client.send(request("/hello") * 300)
    # Each of the six always has a request waiting; new ones are accepted in their turn.
    with server.connect() as client:
        assert client.get("/hello").status == 200
    for client in greedy:
        for _ in range(300):
            assert client.answer().status == 200
        client.socket.close()


# --- many connections


def test_the_oldest_idle_connection_makes_room(serve: Start) -> None:
    server = serve(nofile=64 + 30, **patient())
    clients: list[Client] = []
    for _ in range(40):
        client = server.connect()
        assert client.get("/hello").status == 200
        clients.append(client)
    eventually(lambda: server.gauges()["open"] <= 30)
    assert clients[0].closed()
    assert clients[-1].get("/hello").status == 200
    for client in clients:
        client.socket.close()


@pytest.mark.slow
def test_5000_idle_connections(serve: Start) -> None:
    count = 5000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard >= count + 500, f"this test needs {count + 500} descriptors, the system allows {hard}"
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clients: list[Client] = []
    try:
        server = serve(alone=True, nofile=count + 500, **patient())
        with server.connect() as client:
            client.get("/hello")
        before = server.gauges()["rss"]
        for _ in range(count):
            client = server.connect()
            assert client.get("/deep").status == 200
            clients.append(client)
        eventually(lambda: server.gauges()["greenlets"] <= server.base["greenlets"], "greenlets given back")
        gauges = server.gauges()
        assert gauges["idle"] == count
        assert gauges["running"] == 0
        assert (gauges["rss"] - before) / count <= 15
        with server.connect() as client:
            assert client.get("/hello").status == 200
        assert clients[0].get("/hello").status == clients[-1].get("/hello").status == 200
    finally:
        for client in clients:
            client.socket.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- draining


def test_draining_answers_what_comes_and_ends_the_rest(serve: Start) -> None:
    server = serve(**patient())
    with server.connect() as idle, server.connect() as late, server.connect() as running, server.connect() as silent:
        for client in (idle, late):
            assert client.get("/hello").status == 200
        running.send(request("/wait"))
        eventually(lambda: server.gauges()["started"] == 1)
        server.command("drain")
        # A request that comes in the meantime is answered, and is the last.
        answer = late.get("/hello")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert late.closed()
        assert idle.rest() == b""
        assert silent.rest() == b""
        assert server.gauges()["open"] == 1
        server.command("open wait")
        answer = running.answer()
        assert (answer.body, answer.headers["connection"]) == (b"waited", "close")
        assert running.closed()


def test_slow_clients_do_not_delay_draining(serve: Start) -> None:
    server = serve(**patient())
    with server.connect() as head, server.connect() as body, server.connect(receive_buffer=4096) as deaf:
        head.send(b"GET / HT")
        body.send(b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\nabc")
        deaf.send(request("/big?mib=16"))
        phases = {"reading the head", "reading the body", "writing"}
        eventually(lambda: {item[3] for item in server.command("flight")} == phases)
        began = time.monotonic()
        server.command("drain")
        assert head.answer().status == 408
        assert body.answer().status == 408
        eventually(lambda: server.gauges()["open"] == 0)
        # Without the drain each of them would have been waited for for NEVER.
        assert time.monotonic() - began < NEVER / 10


def test_a_pipelined_request_is_not_answered_after_the_last(serve: Start) -> None:
    server = serve(**patient())
    with server.connect() as client:
        client.send(request("/wait") + request("/hello"))
        eventually(lambda: server.gauges()["started"] == 1)
        server.command("drain")
        server.command("open wait")
        assert client.answer().headers["connection"] == "close"
        assert client.closed()


def test_the_access_log_has_every_answer(serve: Start, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("log") / "access"
    server = serve(access=str(path), access_log_format='"%(r)s" %(s)s %(B)s', **patient(header_timeout=1.0))
    with server.connect() as client:
        client.get("/several?a=b")
        client.get("/stream")
        client.get("/fail")
    with server.connect() as client:
        client.send(b"GET / HTTP/9.9\r\n\r\n")
        assert client.answer().status == 505
    with server.connect() as client:
        client.send(b"GET /caf\xe9 HTTP/1.1\r\n\r\n")
        assert client.answer().status == 400
    with server.connect() as client:
        client.send(b"GET / HT")
        assert client.answer().status == 408
    server.event("request_failed")
    with server.connect() as client:
        client.send(b"GET /left HTTP/1.1\r\nHost")
        eventually(lambda: any(item[3] == "reading the head" for item in server.command("flight")))
    eventually(lambda: path.read_text().count("\n") == 7)
    assert [json.loads(line)["message"] for line in path.read_text().splitlines()] == [
        '"GET /several?a=b HTTP/1.1" 200 13',
        '"GET /stream HTTP/1.1" 200 24',
        '"GET /fail HTTP/1.1" 500 26',
        '"GET / HTTP/1.1" 505 31',
        '"GET /café HTTP/1.1" 400 16',
        '"-" 408 20',
        '"GET /left HTTP/1.1" 400 0',
    ]


@pytest.mark.parametrize("path", ["/whole?mib=8", "/whole?mib=8&stream=1", "/file?size=8388608", "/big?mib=8"])
def test_the_access_log_has_what_was_sent_of_an_answer_that_was_cut(
    serve: Start, tmp_path_factory: pytest.TempPathFactory, path: str
) -> None:
    log = tmp_path_factory.mktemp("log") / "access"
    server = serve(access=str(log), access_log_format="%(s)s %(B)s", **patient(write_timeout=0.3))
    with server.connect(receive_buffer=4096) as client:
        client.send(request(path))
        eventually(log.read_text, "a line")
        line = json.loads(log.read_text())
        received = len(client.until(b"\r\n\r\n") + client.received)
    assert line["status"] == 200
    assert received // 2 < line["bytes"] < 8 << 20, "what the kernel has taken, of which a part has arrived"
    assert line["reason"] == "the peer did not take the answer in time"


@pytest.mark.parametrize("path", ["/whole?mib=8", "/whole?mib=8&stream=1"])
def test_a_client_that_never_reads_costs_one_body(serve: Start, path: str) -> None:
    server = serve(alone=True, **patient())
    clients = []
    before = server.gauges()["rss"]
    for number in range(4):
        clients.append(server.connect(receive_buffer=4096))
        clients[-1].send(request(path))
        eventually(partial(all_write, server, number + 1))
    assert (server.gauges()["rss"] - before) / 1024 < 4 * 8 * 1.25
    for client in clients:
        client.socket.close()


def all_write(server: Served, count: int) -> bool:
    return [item[3] for item in server.command("flight")].count("writing") == count

"""Whose turn it is: what is under way goes on before what has just arrived begins."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.http.client import HOST, Client, eventually
from tests.http.conftest import Served

Start = Callable[..., Served]
MANY = 30


def request(path: str) -> bytes:
    return b"GET " + path.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n"


@contextlib.contextmanager
def stalled(server: Served, seconds: float = 0.1) -> Iterator[None]:
    """What is sent in here has all arrived when the server looks again."""
    with server.connect() as client:
        client.send(request(f"/stall?s={seconds}"))
        with server.suspended():
            yield
        assert client.answer().body == b"stalled"


def kept(server: Served) -> Client:
    client = server.connect()
    assert client.get("/hello").status == 200
    return client


def close(clients: list[Client]) -> None:
    for client in clients:
        client.socket.close()


def asked_one_by_one(server: Served, clients: list[Client], times: int = 1) -> None:
    """All are answered, and no more than two were under way at once."""
    for client in clients:
        assert [client.answer().body for _ in range(times)] == [b"asked"] * times
    assert server.gauges()["most"] <= 2
    close(clients)


@pytest.mark.parametrize("suspend", [False, True], ids=["kept", "suspended"])
def test_of_a_burst_on_old_connections_few_are_under_way(serve: Start, *, suspend: bool) -> None:
    server = serve()
    clients = [kept(server) for _ in range(MANY)]
    if suspend:
        eventually(lambda: server.gauges()["greenlets"] <= server.base["greenlets"], "greenlets given back")
    with stalled(server):
        for client in clients:
            client.send(request("/ask"))
    asked_one_by_one(server, clients)


def test_of_a_burst_of_new_connections_few_are_under_way(serve: Start) -> None:
    server = serve()
    clients = []
    with stalled(server):
        for _ in range(MANY):
            clients.append(server.connect())
            clients[-1].send(request("/ask"))
    asked_one_by_one(server, clients)


def test_pipelined_requests_take_their_turns(serve: Start) -> None:
    server = serve()
    clients = [kept(server) for _ in range(5)]
    with stalled(server):
        for client in clients:
            client.send(request("/ask") * 20)
    asked_one_by_one(server, clients, 20)


def test_nobody_waits_for_a_request_that_waits(serve: Start) -> None:
    server = serve()
    clients = [kept(server) for _ in range(MANY)]
    with server.connect() as waiting, server.connect() as fresh:
        waiting.send(request("/wait"))
        eventually(lambda: server.gauges()["started"] == 1)
        for client in clients:
            client.send(request("/ask"))
        assert [client.answer().body for client in clients] == [b"asked"] * MANY
        assert fresh.get("/ask").body == b"asked"
        server.command("open wait")
        assert waiting.answer().body == b"waited"
    close(clients)


def test_clients_that_leave_while_they_wait_hold_nobody_up(serve: Start) -> None:
    server = serve()
    clients = [kept(server) for _ in range(MANY)]
    with stalled(server):
        for client in clients:
            client.send(request("/ask"))
        close(clients[::2])
    assert [client.answer().body for client in clients[1::2]] == [b"asked"] * (MANY // 2)
    close(clients)


def test_who_is_killed_while_it_waits_is_passed_over(serve: Start) -> None:
    server = serve()
    clients = [kept(server) for _ in range(MANY)]
    # On a busy machine this one may wait for the others, and be the one that is killed.
    clients.insert(0, server.connect())
    clients[0].send(request("/stall?s=0.3"))
    for client in clients[1:]:
        client.send(request("/stall?s=0.01"))
    server.tell("kill turn")
    server.told()
    ends = [_end(client) for client in clients]
    assert sorted(ends) == ["answered"] * MANY + ["reset"]
    close(clients)


def _end(client: Client) -> str:
    try:
        return "answered" if client.answer().body == b"stalled" else "?"
    except ConnectionResetError:
        return "reset"


def test_the_time_of_a_request_counts_from_its_arrival(serve: Start, tmp_path: Path) -> None:
    log = tmp_path / "access"
    server = serve(access=str(log), access_log_format="%(U)s %(D)s")
    clients = [kept(server) for _ in range(10)]
    with stalled(server, 0.3):
        for client in clients:
            client.send(request("/stall?s=0.05"))
    assert [client.answer().status for client in clients] == [200] * 10
    eventually(lambda: log.read_text().count("\n") == 21)  # with the first request of each
    lines = [json.loads(line)["message"].split() for line in log.read_text().splitlines() if "/stall" in line]
    # The last one has waited for the nine before it.
    assert max(int(microseconds) for path, microseconds in lines[1:]) > 9 * 50_000
    close(clients)

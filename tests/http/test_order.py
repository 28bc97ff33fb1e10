"""Clients are served in the order in which they ask, however many of them are ready when the hub looks."""

from __future__ import annotations

import selectors
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from tests.http.client import HOST, PATIENCE, Client
from tests.http.conftest import Served

Start = Callable[..., Served]
CLIENTS = 80
ROUNDS = 6
#: The first rounds bring the clients into the order that the others have to keep.
SETTLING = 2
#: Clients that one after them may overtake; where a batch is served the wrong way round it is 63.
OUT_OF_PLACE = 2


def request(path: str) -> bytes:
    return b"GET " + path.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.fixture
def clients(serve: Start) -> Iterator[tuple[Served, list[Client]]]:
    server = serve()
    clients = [server.connect() for _ in range(CLIENTS)]
    yield server, clients
    for client in clients:
        client.socket.close()


def test_those_that_asked_while_the_server_was_busy_are_served_in_their_order(
    clients: tuple[Served, list[Client]],
) -> None:
    server, asking = clients
    for client in asking:  # from now on they are kept connections, last served in this order
        client.send(request("/numbered"))
        client.answer()
    for _ in range(ROUNDS):
        with server.suspended():
            for client in asking:
                client.send(request("/numbered"))
        numbers = [int(client.answer().body) for client in asking]
        # The kernel tells of 64 at a time, and the last that it told of before stands in the first batch of the next.
        overtaken = sum(later < earlier for earlier, later in pairwise(numbers))
        assert overtaken <= OUT_OF_PLACE, numbers


@pytest.mark.parametrize("path", ["/numbered", "/numbered?work=1"], ids=["quick", "longer than a turn"])
def test_between_two_answers_to_a_client_each_other_one_has_about_one(
    clients: tuple[Served, list[Client]], path: str
) -> None:
    _, asking = clients
    last: dict[Client, list[int]] = {client: [] for client in asking}
    with selectors.DefaultSelector() as selector:
        for client in asking:
            client.send(request(path))
            selector.register(client.socket, selectors.EVENT_READ, client)
        while min(map(len, last.values())) < ROUNDS:
            ready = selector.select(PATIENCE)
            assert ready
            for key, _ in ready:
                client = key.data
                last[client].append(int(client.answer().body))
                client.send(request(path))
        for client in asking:
            client.answer()
    gaps = [
        later - earlier
        for numbers in last.values()
        for earlier, later in zip(numbers[SETTLING:], numbers[SETTLING + 1 :], strict=False)
    ]
    assert max(gaps) <= 1.25 * CLIENTS

"""A slow network, one that breaks, and one that says nothing."""

from __future__ import annotations

import _socket
import socket
import time

import gevent

from tests.db.faults.clients import Clients
from tests.db.faults.test_backends_die import settled
from tests.db.lease.site import Site, eventually, fill, pool, request


def stuck(leased: int, waiting: int) -> bool:
    """Whether so many wait for an answer, and at least so many for a connection."""
    numbers = pool().stats()
    return bool(numbers["pool_leased"] == leased and numbers["requests_waiting"] >= waiting)


def test_slow_broken_and_deaf_under_load(site: Site) -> None:
    item = site.start(max_size=5, timeout=30)
    fill(item, 3)
    with Clients(item.objects.count, 20) as clients:
        clients.wait_for_answers(100)
        site.proxy.latency(20)
        clients.wait_for_answers(50)
        site.proxy.start()
        assert not clients.failed

        broken = time.monotonic()
        site.proxy.cut()
        mended = time.monotonic()
        clients.wait_for_answers(100)
        assert all(outcome.ended >= broken and outcome.began <= mended for outcome in clients.failed)
        assert len(clients.failed) <= 5, "what was in flight"

        failed = len(clients.failed)
        site.proxy.deaf()
        eventually(lambda: stuck(5, 10), "nobody gets an answer")
        site.proxy.start()
        clients.wait_for_answers(100)
        assert len(clients.failed) == failed, "they only had to wait"
    eventually(lambda: settled(site), "all connections are back")
    assert site.sessions() <= 5


def test_requests_that_give_up_in_a_deaf_network(leasing: Site) -> None:
    """As the server ends requests at their deadline. Their queries can only be cancelled when the network is back."""
    item = leasing.start(max_size=3, timeout=30)
    fill(item, 3)
    leasing.proxy.deaf()
    given_up = [request(item.objects.count) for _ in range(3)]
    patient = [request(item.objects.count) for _ in range(6)]
    eventually(lambda: stuck(0, 9) or stuck(1, 8) or stuck(3, 6), "they are under way")
    gevent.killall(given_up)
    leasing.proxy.start()
    gevent.joinall(patient, raise_error=True)
    assert {found.get() for found in patient} == {3}
    eventually(lambda: settled(leasing), "no slot is lost")
    assert leasing.active() == 0


def kernel(option: str) -> set[int]:
    """An option of TCP, of all connections of the pool."""
    number = getattr(socket, option)
    where = socket.SOL_SOCKET if option.startswith("SO_") else socket.IPPROTO_TCP
    found = set()
    for conn in pool()._ledger.by_conn:
        line = _socket.socket(fileno=conn.watch.fd)
        found.add(line.getsockopt(where, number))
        line.detach()
    return found


def test_a_peer_that_vanishes_is_found_by_the_kernel(leasing: Site) -> None:
    """A proxy's kernel answers for it, so it is the options that are looked at."""
    item = leasing.start()
    fill(item, 3)
    assert kernel("SO_KEEPALIVE") == {1}
    assert kernel("TCP_KEEPIDLE") == {30}
    assert kernel("TCP_USER_TIMEOUT") == {60_000}


def test_what_is_set_by_hand_is_left_alone(postgres_site: Site) -> None:
    item = postgres_site.start(options={"keepalives_idle": 77})
    fill(item, 3)
    assert kernel("TCP_KEEPIDLE") == {77}
    assert kernel("TCP_KEEPINTVL") == {10}

"""What others notice of each attack. The bounds are generous: what they guard against was seconds, or for ever."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.attacks.others import Others, attacked
from tests.http.client import eventually
from tests.http.conftest import Served

PERMITS = 20
#: More clients than permits.
CROWD = 60
#: Seconds. The hub is not left for more than a few milliseconds; the rest is for a machine that does something else too.
WORST_WAIT = 1.0
ATTACKS: dict[str, tuple[int, ...]] = {
    "tiny_chunks": (),
    "huge_upload": (),
    "unread_upload": (),
    "single_bytes": (),
    "pipelining": (),
    "endless_stream": (),
    "empty_blocks": (),
    "big_file": (),
    "half_bodies": (),
    "slow_bodies": (CROWD, 1_000_000),
    "slow_readers": (CROWD,),
    "trickling_heads": (CROWD,),
    "silence": (CROWD,),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    server = Served(alone=True, worker_connections=PERMITS, queue_timeout=5)
    yield server
    server.stop()


def is_under_way(before: dict[str, int], now: dict[str, int], clients: int = 1) -> bool:
    """Whether as many clients are connected, or one has come and gone."""
    return now["open"] >= clients or (clients == 1 and now["total"] > before["total"])


@pytest.mark.parametrize("name", ATTACKS)
def test_no_client_keeps_others_from_being_answered(server: Served, name: str) -> None:
    eventually(lambda: server.gauges()["open"] == 0, "the attack before has ended")
    before = server.gauges()
    numbers = ATTACKS[name]
    with attacked(server.address, name, *numbers):
        eventually(lambda: is_under_way(before, server.gauges(), *numbers[:1]), "the attack is under way")
        with Others(server.address) as others:
            time.sleep(1.0)  # for so long they must be answered
        during = server.gauges()
    assert others.failures == []
    assert len(others.waits) > 10
    assert others.worst < WORST_WAIT
    # KiB: what is in flight on each connection, and a greenlet.
    assert during["rss"] - before["rss"] < 8192
    assert during["files"] <= (name == "big_file"), "nothing is written to a disk"


def test_memory_does_not_grow_with_bodies_that_nobody_reads(server: Served) -> None:
    """400 clients with half a MiB each cost half a MiB each."""
    before = server.gauges()["rss"]
    clients = [server.connect() for _ in range(400)]
    for client in clients:
        client.send(b"POST /wait HTTP/1.1\r\nHost: test.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.socket.setblocking(False)
        block = memoryview(b"20000\r\n" + b"x" * 0x20000 + b"\r\n")
        for _ in range(4):
            try:
                client.socket.send(block)
            except BlockingIOError:
                break
    for client in clients:
        client.socket.close()
    assert (server.gauges()["rss"] - before) / len(clients) < 150
    server.command("open wait")

"""The server stops, gracefully and not, and comes back, under load."""

from __future__ import annotations

import random
import time
from functools import partial
from typing import Any

import gevent

from tests.db.faults.clients import RECOVERY, Clients, FragileSite, Outcome
from tests.db.lease.site import at_rest, eventually, fill, pool


def work(item: type[Any]) -> None:
    """A statement, or a transaction of several."""
    from django.db import transaction

    if random.random() < 0.5:
        assert item.objects.count() == 3
        return
    with transaction.atomic():
        names = list(item.objects.order_by("id").values_list("name", flat=True))
        gevent.sleep(0.002)
        item.objects.filter(name=names[-1]).update(name=names[-1])


def restart(site: FragileSite, clients: Clients, mode: str) -> tuple[float, float]:
    """Down, and up again; between which times requests may fail."""
    assert site.operator is not None
    down = time.monotonic()
    site.operator.stop(mode)
    clients.wait_for_failures(40)
    starting = time.monotonic()
    site.operator.start()
    up = time.monotonic()
    late = clients.first_success(starting) - up
    assert late <= RECOVERY, f"{mode}: the first success came {late:.2f} s after the server"
    return down, up + RECOVERY


def explained(outcome: Outcome, outages: list[tuple[float, float]]) -> bool:
    """Whether it was in flight when the server went, or came while it was away."""
    return any(outcome.ended >= down and outcome.began <= up for down, up in outages)


def test_a_server_that_restarts_under_load(fragile: FragileSite) -> None:
    item = fragile.start(max_size=5, timeout=30)
    fill(item, 3)
    from djworker.db.errors import PoolTimeout

    with Clients(partial(work, item), 20) as clients:
        clients.wait_for_answers(100)
        outages = []
        for mode in ("fast", "immediate"):
            outages.append(restart(fragile, clients, mode))
            clients.wait_for_answers(100)
    assert not [outcome for outcome in clients.failed if not explained(outcome, outages)]
    assert not [outcome for outcome in clients.failed if isinstance(outcome.error, PoolTimeout)], "nobody waits in vain"
    eventually(at_rest, "all connections are back")
    assert fragile.sessions() == pool().stats()["pool_size"] <= 5

"""An operator, or a watchdog, ends every session again and again, while logins are slow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gevent

from tests.db.faults.clients import Clients
from tests.db.lease.site import Site, eventually, fill, pool
from tests.db.observe.watching import listening

EVERY = 0.08  # seconds


@contextmanager
def terminations(site: Site, clients: Clients) -> Iterator[None]:
    """All sessions are ended, every EVERY seconds; less often on a machine that is too slow to answer anything meanwhile."""

    def work() -> None:
        pause, answered = EVERY, 0
        while True:
            gevent.sleep(pause)
            if clients.answered() == answered:
                pause *= 1.5
            answered = clients.answered()
            site.server.terminate_backends(site.database)

    worker = gevent.spawn(work)
    try:
        yield
    finally:
        worker.kill()


def test_sessions_that_end_all_the_time_are_no_outage(leasing: Site) -> None:
    """Logins end with them. The server lets us in again and again, so waiting would be in vain."""
    item = leasing.start(max_size=10, timeout=30)
    fill(item, 3)
    from djworker.db.errors import ServerUnavailable

    leasing.proxy.latency(4)
    with listening() as seen, Clients(item.objects.count, 20, pause=0.005) as clients, terminations(leasing, clients):
        clients.wait_for_answers(20)
        eventually(lambda: pool().stats()["connections_errors"] >= 5, "logins were ended too")
        clients.wait_for_answers(20)
    assert not [outcome for outcome in clients.failed if isinstance(outcome.error, ServerUnavailable)]
    assert not seen.of("pool_outage"), seen.of("pool_outage")

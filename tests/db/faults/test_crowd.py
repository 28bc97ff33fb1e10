"""Five hundred clients on ten connections."""

from __future__ import annotations

import gevent

from tests.db.lease.site import Site, at_rest, eventually, fill, pool, query

CLIENTS = 500
# Of each client; and of each request. Ten connections are less than a thousandth of what comes together.
REQUESTS = 3
STATEMENTS = 7


def test_five_hundred_clients_on_ten_connections(site: Site) -> None:
    item = site.start(max_size=10, timeout=30)
    fill(item, 3)
    from django.core.signals import request_finished, request_started

    name = item._meta.db_table
    before = pool().stats()
    seen = []

    def client() -> None:
        """As a worker serves one that keeps its connection: one request after the other in one greenlet."""
        for _ in range(REQUESTS):
            request_started.send(sender=None, environ={"REQUEST_METHOD": "GET", "PATH_INFO": "/"})
            try:
                for _ in range(STATEMENTS):
                    assert query(f"SELECT count(*) FROM {name}") == (3,)
            finally:
                request_finished.send(sender=None)

    clients = [gevent.spawn(client) for _ in range(CLIENTS)]
    while not all(client.dead for client in clients):
        seen.append(site.sessions())
        gevent.sleep(0.25)
    gevent.joinall(clients, raise_error=True)
    after = pool().stats()
    uses = after["requests_num"] - before["requests_num"]
    assert uses == CLIENTS * REQUESTS * (STATEMENTS if site.transaction_lease else 1)
    assert 0 < max(seen) <= 10, seen
    made = after["connections_num"]
    assert made <= 10, "each is made once"
    assert made / (CLIENTS * REQUESTS * STATEMENTS) < 0.001
    assert after["requests_errors"] == before["requests_errors"]
    eventually(at_rest, "all connections are back")
    assert site.sessions() <= 10

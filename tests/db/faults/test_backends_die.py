"""Single sessions are ended by the server, idle ones and active ones."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event

from tests.db.lease.site import Site, at_rest, eventually, fill, pool, request, view


def settled(site: Site) -> bool:
    """Whether everything is back, and the server counts what the pool counts."""
    return at_rest() and site.sessions() == pool().stats()["pool_size"]


def grow(site: Site, number: int) -> None:
    """So many connections, idle."""
    inside: list[int] = []

    def work() -> None:
        from django.db import connection, transaction

        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            inside.append(1)
            eventually(lambda: len(inside) == number, "all hold one")

    gevent.joinall([request(work) for _ in range(number)], raise_error=True)
    assert site.sessions() == number


def test_idle_sessions_that_are_ended_hurt_nobody(site: Site) -> None:
    item = site.start(max_size=5, timeout=10)
    fill(item, 3)
    grow(site, 5)
    from django.db import connection

    from djworker.db.lease.lease import JUST_NOW

    driver = connection.leased_pool.driver
    old = list(pool()._ledger.by_conn)
    site.server.terminate_backends(site.database)
    eventually(lambda: all(map(driver.is_broken, old)), "the news has arrived")
    gevent.sleep(2 * JUST_NOW)  # a connection that worked so shortly ago is not looked at
    requests = [request(item.objects.count) for _ in range(20)]
    gevent.joinall(requests, raise_error=True)
    assert {found.get() for found in requests} == {3}
    eventually(lambda: settled(site), "replaced")
    assert not set(old) & set(pool()._ledger.by_conn)


def test_an_active_session_that_is_ended_costs_its_own_request_only(site: Site) -> None:
    item = site.start(max_size=5, timeout=10)
    fill(item, 1)
    from django.db import DatabaseError, transaction

    locked, go = Event(), Event()

    def wait_for_the_row() -> str:
        with transaction.atomic():
            name: str = item.objects.select_for_update().get().name
            locked.set()
            go.wait()
        return name

    requests = [request(wait_for_the_row)]
    assert locked.wait(10)
    requests += [request(wait_for_the_row) for _ in range(3)]
    eventually(lambda: site.active() == 3, "three wait for the row's lock")
    victim = next(number for number, state, _ in site.server.activity(site.database) if state == "active")
    site.server.execute(f"SELECT pg_terminate_backend({victim})" if site.dialect == "postgres" else f"KILL {victim}")
    eventually(lambda: any(found.dead for found in requests), "one was told")
    go.set()
    gevent.joinall(requests)
    assert sorted(found.successful() for found in requests) == [False, True, True, True]
    with pytest.raises(DatabaseError):
        gevent.joinall(requests, raise_error=True)
    eventually(lambda: settled(site), "replaced")
    assert view(item.objects.count) == 1

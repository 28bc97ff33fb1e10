"""Servers that refuse, go away and come back, as Django code sees it."""

from __future__ import annotations

import time

import gevent
import pytest

from tests.db.lease.site import Site, at_rest, eventually, fill, pool, query, request, view


def test_a_wrong_password_is_said_at_the_first_use(site: Site) -> None:
    site.start(create=False)
    from django.db import OperationalError, connection, connections

    connections.settings["default"]["PASSWORD"] = "wrong"
    with pytest.raises(OperationalError, match=r"(?i)password|denied"):
        connection.ensure_connection()
    with pytest.raises(OperationalError, match=r"(?i)password|denied"):
        view(query, "SELECT 1")
    assert site.sessions() == 0


def test_a_database_that_is_not_there(site: Site) -> None:
    site.start(create=False)
    from django.db import OperationalError, connection, connections

    connections.settings["default"]["NAME"] = "nowhere"
    with pytest.raises(OperationalError, match="nowhere"):
        connection.ensure_connection()


def test_an_outage_and_its_end(site: Site) -> None:
    item = site.start(max_size=3, timeout=5)
    fill(item, 3)
    from django.db import OperationalError

    site.proxy.stop()
    eventually(lambda: site.sessions() == 0, "cut")
    refused = 0
    for _ in range(20):
        try:
            view(item.objects.count)
        except OperationalError:
            refused += 1
        gevent.sleep(0.02)
    assert refused >= 18
    site.proxy.start()
    back = time.monotonic()

    def works() -> bool:
        try:
            return bool(view(item.objects.count) == 3)
        except OperationalError:
            return False

    eventually(works, "recovered")
    assert time.monotonic() - back < 10
    gevent.joinall([request(item.objects.count) for _ in range(30)], raise_error=True)
    eventually(at_rest, "those that were not needed are connected too")
    assert site.sessions() <= 3


def test_the_bound_holds_with_a_crowd(site: Site) -> None:
    item = site.start(max_size=4, timeout=60)
    seen = []

    def work(number: int) -> None:
        from django.db import transaction

        item.objects.count()
        gevent.sleep(0.001)
        if number % 10 == 0:
            with transaction.atomic():
                item.objects.create(name=str(number))
        if number % 50 == 0:
            seen.append(site.sessions())

    gevent.joinall([request(work, number) for number in range(300)], raise_error=True)
    assert max(seen) <= 4
    assert view(item.objects.count) == 30
    assert pool().stats()["connections_num"] <= 4

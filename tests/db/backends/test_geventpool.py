"""django-db-geventpool's engines with our pool in their seam."""

from __future__ import annotations

import gevent
import pytest

from tests.db.lease.site import Site, eventually, query, request, view


def start(site: Site, *, timeout: float = 2, **options: int) -> type:
    from tests.db.lease.site import configure

    item = configure(site.driver, site.engine)
    from djworker.db import geventpool

    geventpool.install(site.engine)
    site.start(options={"pool": False, **options}, create=False, lease=None, max_size=None, timeout=timeout)
    from django.db import connection

    connection._connection_pools.clear()

    def create() -> None:
        with connection.schema_editor() as editor:
            editor.create_model(item)

    view(create)
    return item


def test_thirty_greenlets_at_most_four_connections(geventpool_site: Site) -> None:
    item = start(geventpool_site, MAX_CONNS=4, timeout=30)
    seen = []

    def work(number: int) -> None:
        item.objects.create(name=str(number))
        query("SELECT pg_sleep(0.02)")
        seen.append(geventpool_site.sessions())

    for round_ in range(3):
        gevent.joinall([request(work, f"{round_}-{number}") for number in range(30)], raise_error=True)
    assert max(seen) <= 4
    assert view(item.objects.count) == 90
    assert geventpool_site.sessions() == 4


def test_reuse_conns_bounds_what_stays_open(geventpool_site: Site) -> None:
    item = start(geventpool_site, MAX_CONNS=4, REUSE_CONNS=1)
    gevent.joinall([request(query, "SELECT pg_sleep(0.02)") for _ in range(8)], raise_error=True)
    eventually(lambda: geventpool_site.sessions() == 1, "the others are closed")
    assert view(item.objects.count) == 0


def test_backends_that_die_and_greenlets_that_do_not_say_good_bye(geventpool_site: Site) -> None:
    item = start(geventpool_site, MAX_CONNS=2)

    def doomed() -> None:
        from django.db import DatabaseError, transaction

        with pytest.raises(DatabaseError), transaction.atomic():  # noqa: PT012 - the block is what raises
            item.objects.create(name="x")
            geventpool_site.server.terminate_backends(geventpool_site.database)
            query("SELECT 1")

    for _ in range(3):
        view(doomed)
        gevent.joinall([gevent.spawn(item.objects.count) for _ in range(6)], raise_error=True)
    assert view(item.objects.count) == 0
    eventually(lambda: geventpool_site.sessions() <= 2, "within the bound")


def test_an_open_transaction_does_not_reach_the_next_request(geventpool_site: Site) -> None:
    item = start(geventpool_site, MAX_CONNS=1)

    def careless() -> None:
        from django.db import transaction

        transaction.set_autocommit(False)
        item.objects.create(name="never")

    view(careless)
    assert view(item.objects.count) == 0


def test_pools_on_databases_of_one_name_are_all_looked_after(geventpool_site: Site) -> None:
    start(geventpool_site, MAX_CONNS=4)
    from django.db import connections

    from djworker.db.lease.registry import pool_watches

    def primary_and_replica() -> set[object]:
        for alias in ("default", "other"):
            with connections[alias].cursor() as cursor:
                cursor.execute("SELECT 1")
        return {connections[alias].pool.inner for alias in ("default", "other")}

    pools = view(primary_and_replica)
    assert len(pools) == 2
    assert pools <= {pool_watch.pool for pool_watch in pool_watches()}

"""Slow acquires, long holds, idle transactions: on every driver."""

from __future__ import annotations

import gevent
from gevent.event import Event

from tests.db.lease.site import Site, at_rest, eventually, fill, held, pool, query, request, view
from tests.db.observe import urls
from tests.db.observe.watching import get, listening, look

URLS = "tests.db.observe.urls"
OFF = {"slow_acquire": 0, "long_hold": 0, "idle_in_transaction": 0}


def test_an_idle_transaction_is_told_with_its_view_and_the_line_it_stands_at(leasing: Site) -> None:
    leasing.start(**{**OFF, "idle_in_transaction": 10})
    go_on, waiting = Event(), Event()

    def ask_somebody_slow() -> None:
        waiting.set()
        go_on.wait()

    def work() -> None:
        from django.db import transaction

        with transaction.atomic():
            query("SELECT 1")
            ask_somebody_slow()

    urls.work[:] = [work]
    with listening() as seen:
        slow = gevent.spawn(get, "/orders/7/", URLS)
        waiting.wait()
        look()
        look(9)
        assert not seen.of("idle_in_transaction")
        look(11)
        look(12)
        (fields,) = seen.of("idle_in_transaction")
        go_on.set()
        assert slow.get()[0] == "200 OK"
        look(100)
    assert fields["view"] == "order"
    assert fields["pool"] == "default"
    assert fields["idle"] > 10
    assert "ask_somebody_slow" in fields["stack"]
    assert "inside a transaction" in seen.messages("idle_in_transaction")[0]
    assert len(seen.of("idle_in_transaction")) == 1
    assert at_rest()


def test_a_transaction_that_works_is_not_idle(leasing: Site) -> None:
    leasing.start(**{**OFF, "idle_in_transaction": 10})

    def work() -> None:
        from django.db import transaction

        with transaction.atomic():
            query("SELECT 1")
            look()
            query("SELECT 1")
            look(20)
            query("SELECT 1")
            look(40)

    with listening() as seen:
        view(work)
    assert not seen.of("idle_in_transaction")


def test_a_long_statement_is_a_long_hold_and_not_idle(leasing: Site) -> None:
    leasing.start(**{**OFF, "long_hold": 60, "idle_in_transaction": 10})

    def work() -> None:
        from django.db import transaction

        with transaction.atomic():
            query(leasing.sleep_sql(0.5))

    with listening() as seen:
        busy = request(work)
        eventually(lambda: leasing.active() == 1, "the statement runs")
        look()
        look(59)
        assert not seen.records
        look(61)
        look(62)
        busy.get()
    assert not seen.of("idle_in_transaction")
    (fields,) = seen.of("long_hold")
    assert fields["age"] >= 60
    assert "execute" in fields["stack"]


def test_the_rows_of_a_server_side_cursor_are_statements(postgres_site: Site) -> None:
    item = postgres_site.start(**{**OFF, "idle_in_transaction": 10})
    fill(item, 60)

    def work() -> None:
        from django.db import transaction

        with transaction.atomic():
            for number, _ in enumerate(item.objects.iterator(chunk_size=10)):
                assert held()
                if number % 10 == 0:
                    look(number)  # every ten seconds, it seems, the next rows are fetched

    with listening() as seen:
        view(work)
    assert not seen.of("idle_in_transaction")


def test_a_request_lease_that_waits_outside_a_transaction_is_not_idle(site: Site) -> None:
    site.start(**{**OFF, "long_hold": 60, "idle_in_transaction": 10})

    def work() -> None:
        query("SELECT 1")
        look()
        look(100)

    with listening() as seen:
        view(work)
    assert not seen.of("idle_in_transaction")
    assert len(seen.of("long_hold")) == (0 if site.transaction_lease else 1)


def test_manual_transactions_count_too(leasing: Site) -> None:
    """`set_autocommit(False)`, and nobody commits."""
    leasing.start(**{**OFF, "idle_in_transaction": 10})

    def work() -> None:
        from django.db import transaction

        transaction.set_autocommit(False)
        query("SELECT 1")
        look()
        look(11)
        transaction.rollback()
        transaction.set_autocommit(True)

    with listening() as seen:
        view(work)
    assert len(seen.of("idle_in_transaction")) == 1


def test_who_waits_for_long_is_told_with_the_numbers(leasing: Site) -> None:
    leasing.start(**{**OFF, "slow_acquire": 0.01}, max_size=1)
    look()  # making the connection took its time too
    go_on, holding = Event(), Event()

    def hold() -> None:
        from django.db import transaction

        with transaction.atomic():
            query("SELECT 1")
            holding.set()
            go_on.wait()

    with listening() as seen:
        first = request(hold)
        holding.wait()
        second = request(query, "SELECT 1")
        eventually(lambda: pool().stats()["requests_waiting"] == 1, "the second waits")
        begun = gevent.get_hub().loop.now()
        eventually(lambda: gevent.get_hub().loop.now() > begun + 0.05, "it has waited for long enough")
        look()
        assert not seen.of("slow_acquire")
        go_on.set()
        gevent.joinall([first, second], raise_error=True)
        look()
    (fields,) = seen.of("slow_acquire")
    assert fields["waited"] >= 0.01
    assert (fields["size"], fields["max"], fields["waiting"]) == (1, 1, 0)
    assert "GET /test/" in seen.messages("slow_acquire")[0]
    assert at_rest()


def test_django_db_geventpools_connections_are_watched_too(geventpool_site: Site) -> None:
    from tests.db.backends.test_geventpool import start

    start(geventpool_site, MAX_CONNS=4)

    def work() -> None:
        import time

        from djworker.db.lease.registry import pool_watches

        query("SELECT 1")
        for pool_watch in pool_watches():
            pool_watch.look(time.monotonic() + 100)

    with listening() as seen:
        view(work)
    assert [fields["pool"].partition(" ")[0] for fields in seen.of("long_hold")] == ["geventpool"]

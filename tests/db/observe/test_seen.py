"""Numbers, events, `connection_created` and the SQL log."""

from __future__ import annotations

import logging
from typing import Any

import gevent
from gevent.event import Event

from tests.db.lease.site import Site, at_rest, eventually, pool, query, request, view
from tests.db.observe.watching import listening


def test_stats_by_alias(leasing: Site) -> None:
    from djworker import db

    leasing.start(max_size=4)
    view(query, "SELECT 1")
    numbers = db.stats()["default"]
    assert (numbers["pool_max"], numbers["pool_size"], numbers["pool_available"]) == (4, 1, 1)
    assert numbers["requests_num"] >= 1
    assert numbers["requests_waiting"] == 0
    assert "lease_pins" in numbers


def test_a_beat_sums_all_pools_up(psycopg3_site: Site) -> None:
    from django.db import connections

    from djworker.db.lease.beat import beat
    from djworker.ipc.scoreboard import Gauge

    psycopg3_site.start(max_size=2)
    before = beat()
    go_on = Event()

    def hold(alias: str) -> None:
        from django.db import transaction

        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1")
            go_on.wait()

    holders = [request(hold, "default") for _ in range(3)] + [request(hold, "other")]
    eventually(lambda: beat()[Gauge.POOL_WAITING] == before[Gauge.POOL_WAITING] + 1, "the third waits")
    eventually(lambda: beat()[Gauge.POOL_SIZE] == before[Gauge.POOL_SIZE] + 2, "three are held, one was there")
    assert beat()[Gauge.POOL_MAX] == before[Gauge.POOL_MAX] + 2  # `other` has joined
    go_on.set()
    gevent.joinall(holders, raise_error=True)
    assert beat()[Gauge.POOL_AVAILABLE] == before[Gauge.POOL_AVAILABLE] + 2
    assert beat()[Gauge.POOL_WAITING] == before[Gauge.POOL_WAITING]


def test_an_outage_and_its_end_are_events(leasing: Site) -> None:
    leasing.start()

    def ask() -> bool:
        from django.db import Error

        try:
            view(query, "SELECT 1")
        except Error:
            return False
        return True

    with listening() as seen:
        leasing.proxy.stop()
        eventually(lambda: not ask() and bool(seen.of("pool_outage")), "the outage is told of")
        leasing.proxy.start()
        eventually(ask, "the server is back")
        (outage,), (recovered,) = seen.of("pool_outage"), seen.of("pool_recovered")
    assert outage["pool"] == recovered["pool"] == "default"
    assert outage["cause"]
    levels = {record.levelno for record in seen.records if record.getMessage() == seen.messages("pool_outage")[0]}
    assert levels == {logging.ERROR}


def test_a_connection_that_was_left_behind_is_an_event(leasing: Site) -> None:
    leasing.start()

    def leave_behind() -> None:
        from django.db import transaction

        transaction.set_autocommit(False)
        query("SELECT 1")

    with listening() as seen:
        gevent.spawn(leave_behind).join()
        eventually(at_rest, "it was taken back")
    (fields,) = seen.of("pool_reclaimed")
    assert fields["pool"] == "default"
    assert fields["age"] >= 0
    assert "leave_behind" in fields["label"]


def test_connection_created_is_sent_once_per_connection_with_a_usable_one(site: Site) -> None:
    from django.db.backends.signals import connection_created

    site.start(create=False, max_size=2)
    seen: list[tuple[str, Any]] = []

    def receiver(sender: Any, connection: Any, **_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            seen.append((connection.alias, cursor.fetchone()))

    connection_created.connect(receiver)
    try:
        for _ in range(3):
            view(query, "SELECT 1")
        assert seen == [("default", (1,))]
        go_on = Event()

        def hold() -> None:
            from django.db import transaction

            with transaction.atomic():
                query("SELECT 1")
                go_on.wait()

        holders = [request(hold) for _ in range(2)]
        eventually(lambda: pool().stats()["pool_leased"] == 2, "two are held")
        go_on.set()
        gevent.joinall(holders, raise_error=True)
        assert seen == [("default", (1,))] * 2
    finally:
        connection_created.disconnect(receiver)


def test_the_sql_log_of_django_goes_on(site: Site) -> None:
    item = site.start()

    def work() -> list[dict[str, str]]:
        from django.db import connection, transaction

        connection.force_debug_cursor = True
        try:
            with transaction.atomic():
                item.objects.create(name="logged")
            assert item.objects.filter(name="logged").exists()
            return list(connection.queries)
        finally:
            connection.force_debug_cursor = False
            connection.queries_log.clear()

    with listening("django.db.backends", logging.DEBUG) as seen:
        queries: list[dict[str, str]] = view(work)
    logged = [record.sql for record in seen.records if hasattr(record, "sql")]
    assert any("INSERT INTO" in (sql or "") for sql in logged)
    assert any("SELECT" in (sql or "") and "lease_item" in (sql or "") for sql in logged)
    statements = [record for record in seen.records if "lease_item" in (getattr(record, "sql", "") or "")]
    assert all(record.alias == "default" and record.duration >= 0 for record in statements)  # type: ignore[attr-defined]
    assert any("'logged'" in entry["sql"] for entry in queries)
    assert [entry["sql"] for entry in queries if "time" not in entry] == []

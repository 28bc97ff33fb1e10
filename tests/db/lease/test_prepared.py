"""psycopg 3 prepares statements by itself, as our documentation recommends; tables change, and tenants' tables differ."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from tests.db.lease.site import Site, fill, pool, query, request, view

PREPARING = {"server_side_binding": True, "prepare_threshold": 2}
#: Each tenant's table has columns of its own.
TENANTS = {"one": "a int", "two": "a int, b text", "three": "b text, a int"}


@pytest.fixture(params=["transaction", "request"])
def preparing(request: pytest.FixtureRequest, psycopg3_site: Site) -> Site:
    """psycopg 3 with either lease."""
    psycopg3_site.lease = request.param
    return psycopg3_site


def everything(sql: str, before: str = "") -> list[Any]:
    """All columns of all rows, with another statement before."""
    from django.db import connection

    with connection.cursor() as cursor:
        if before:
            cursor.execute(before)
        cursor.execute(sql)
        return list(cursor.fetchall())


def failures(work: Any, times: int) -> int:
    """How many of so many requests fail for a plan."""
    from django.db import NotSupportedError

    failed = 0
    for _ in range(times):
        try:
            view(work)
        except NotSupportedError:
            failed += 1
    return failed


def prepared() -> int:
    """Statements that are prepared on the connections of the pool."""
    return sum(len(conn._prepared._names) for conn in pool().connections())


def test_a_migration_costs_one_error_for_all_connections(preparing: Site) -> None:
    item = preparing.start(options=PREPARING, max_size=3)
    fill(item, 2)

    def slow() -> None:
        from django.db import transaction

        with transaction.atomic():
            everything("SELECT * FROM lease_item")
            gevent.sleep(0.02)

    for _ in range(5):
        gevent.joinall([request(slow) for _ in range(3)], raise_error=True)
    assert prepared() == 3, "on each connection"
    preparing.server.execute("ALTER TABLE lease_item ADD COLUMN more int DEFAULT 7", dbname=preparing.database)
    assert failures(slow, 20) <= 1
    gevent.joinall([request(slow) for _ in range(9)], raise_error=True)
    assert view(lambda: len(everything("SELECT * FROM lease_item")[0])) == 3
    assert prepared(), "and it is prepared again"


def tenants(site: Site) -> None:
    """A schema for each, owned by a role of the same name that the application may become."""
    for name, columns in TENANTS.items():
        for sql in (
            f"CREATE SCHEMA {name}",
            f"CREATE TABLE {name}.note ({columns})",
            f"INSERT INTO {name}.note (a) VALUES (1)",
            f"GRANT USAGE ON SCHEMA {name} TO app",
            f"GRANT SELECT ON {name}.note TO app",
        ):
            site.server.execute(sql, dbname=site.database)


def test_tenants_with_different_tables_share_connections_without_an_error(preparing: Site) -> None:
    """The settings are replayed, and the statements stay prepared for each."""
    preparing.start(options=PREPARING, max_size=1)
    tenants(preparing)

    def work(name: str) -> int:
        return len(everything("SELECT * FROM note", f"SET search_path TO {name}, public")[0])

    for _ in range(6):
        assert [view(work, name) for name in TENANTS] == [1, 2, 2]
    if preparing.transaction_lease:
        assert prepared() >= len(TENANTS)


def test_a_text_whose_tables_differ_behind_our_back_is_soon_not_prepared_any_more(preparing: Site) -> None:
    """`SET LOCAL` is nothing that is replayed: neither we nor psycopg know which tables are meant."""
    preparing.start(options=PREPARING, max_size=1)
    tenants(preparing)
    from django.db import transaction

    names = [name for _ in range(10) for name in ("one", "one", "one", "one", "two", "two", "two", "two")]

    def work() -> None:
        with transaction.atomic():
            query(f"SET LOCAL search_path TO {names.pop()}, public")
            everything("SELECT * FROM note")

    assert failures(work, len(names)) <= 2

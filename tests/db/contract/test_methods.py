"""Every method of every cursor: its text is judged and confirmed, it sends nothing, or the connection is replaced."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from inspect import isroutine
from typing import Any

import pytest

from tests.db.lease.site import Site, at_rest, eventually, fill, held, pool, query, view


def kinds(site: Site) -> list[type]:
    """The cursor classes of this library that a connection may be told to use."""
    import importlib

    module = {"psycopg3": "psycopg", "psycopg2": "psycopg2.extras", "mysqlclient": "MySQLdb.cursors"}
    library = importlib.import_module(module.get(site.driver, "pymysql.cursors"))
    return [kind for kind in vars(library).values() if isinstance(kind, type) and hasattr(kind, "fetchone")]


def sends_nothing(name: str, method: Any) -> bool:
    """Whether it has no connection to send it on, or stands in the table of what is harmless."""
    from django.db import connection

    from djworker.db.lease.raw_names import CURSORS

    harmless = name in CURSORS[connection.leased_pool.driver.name]  # type: ignore[attr-defined]
    return harmless or getattr(getattr(method, "__self__", method), "connection", method) is None


def test_a_method_that_is_not_known_costs_the_connection(site: Site) -> None:
    site.start()
    from djworker.db.lease.cursor import LeasedCursor

    def work() -> None:
        from django.db import connection

        for executed in (False, True):
            with connection.cursor() as cursor:
                leased: Any = cursor.cursor  # type: ignore[attr-defined]
                if executed:
                    cursor.execute("SELECT 1")
                for name in sorted({name for kind in kinds(site) for name in dir(kind) if not name.startswith("__")}):
                    own = name in vars(LeasedCursor)
                    with suppress(AttributeError):
                        value = getattr(leased, name)
                        if own or not isroutine(value) or sends_nothing(name, value):
                            continue
                        assert connection.lease.conn.lease_record.spoilt.startswith("raw cursor."), name  # type: ignore[attr-defined]

    view(work)


def sets_state(site: Site) -> str:
    return (
        "SELECT set_config('app.tenant', 'red', false)" if site.dialect == "postgres" else "SELECT GET_LOCK('mine', 0)"
    )


def found(site: Site) -> object:
    look = "SELECT current_setting('app.tenant', true)" if site.dialect == "postgres" else "SELECT IS_FREE_LOCK('mine')"
    return query(look)[0]


def leaves_nothing(site: Site, run: Any) -> None:
    """The state is there for the rest of the request, and for nobody after it."""

    def work() -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            run(cursor)
        assert found(site) in ("red", "mine", 0)

    view(work)
    eventually(at_rest, "all is back")
    assert all(view(found, site) in (None, "", 1) for _ in range(3))


def test_execute_and_executemany_are_judged(site: Site) -> None:
    site.start(max_size=1)
    leaves_nothing(site, lambda cursor: cursor.execute(sets_state(site)))
    leaves_nothing(site, lambda cursor: cursor.execute(sets_state(site).encode()))
    many = "SELECT set_config('app.tenant', %s, false)" if site.dialect == "postgres" else "SELECT GET_LOCK(%s, 0)"
    leaves_nothing(site, lambda cursor: cursor.executemany(many, [("mine",), ("mine",)]))


def test_stream_is_judged_and_confirmed(psycopg3_site: Site) -> None:
    psycopg3_site.start(max_size=1)
    leaves_nothing(psycopg3_site, lambda cursor: list(cursor.stream(sets_state(psycopg3_site))))
    leaves_nothing(psycopg3_site, lambda cursor: next(cursor.stream(sets_state(psycopg3_site))))

    def plain() -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            assert list(cursor.stream("SELECT generate_series(1, 2)")) == [(1,), (2,)]
        assert not held()

    view(plain)


def test_copy_is_judged(psycopg3_site: Site) -> None:
    def run(cursor: Any) -> None:
        with cursor.copy(f"COPY ({sets_state(psycopg3_site)}) TO STDOUT") as copy:
            for _ in copy:
                pass

    psycopg3_site.start(max_size=1)
    leaves_nothing(psycopg3_site, run)


def test_a_routine_that_is_called_is_judged_by_its_name(postgres_site: Site) -> None:
    postgres_site.start(max_size=1)
    leaves_nothing(postgres_site, lambda cursor: cursor.callproc("set_config", ["app.tenant", "red", False]))


def test_callproc_never_reads_back_from_a_stranger(postgres_site: Site) -> None:
    item = postgres_site.start(max_size=2)
    fill(item, 3)

    def work() -> None:
        from django.db import connection

        from djworker.db.lease.errors import ReadBackLost

        with connection.cursor() as cursor:
            with pytest.raises(ReadBackLost):
                cursor.callproc("lastval")
            connection.close()
        made = item.objects.create(name="mine")
        with connection.cursor() as cursor:
            cursor.callproc("lastval")
            assert cursor.fetchone() == (made.pk,)

    view(work)


def test_a_routine_pins_whatever_it_does(site: Site) -> None:
    site.start(max_size=1)
    if site.dialect == "postgres":
        query("CREATE FUNCTION quiet() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    else:
        query("CREATE PROCEDURE quiet() SELECT 1")
    from django.db import connection

    connection.close()

    def work() -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.callproc("quiet", [])
            assert cursor.fetchone() == (1,)
        assert held()

    view(work)
    eventually(at_rest, "all is back")


def test_rows_of_a_server_side_cursor_that_are_killed_lose_the_connection(postgres_site: Site) -> None:
    import gevent

    item = postgres_site.start(max_size=1)
    fill(item, 5)

    def work() -> None:
        from django.db import connection, transaction

        with suppress(gevent.Timeout), transaction.atomic():
            cursor = connection.chunked_cursor()
            cursor.itersize = 1  # type: ignore[attr-defined]
            cursor.execute("SELECT pg_sleep(0.2) FROM lease_item")
            with gevent.Timeout(0.3):
                for _ in cursor:
                    pass

    view(work)
    eventually(at_rest, "all is back")
    assert view(query, "SELECT 1") == (1,)
    assert pool().stats()["connections_cancelled"] + pool().stats()["returns_bad"] >= 1


def test_rows_in_the_server_end_with_their_connection(postgres_site: Site) -> None:
    """A generator that is kept beyond `connection.close()`, or the request, reads from nobody else's connection."""
    item = postgres_site.start(max_size=1)
    fill(item, 5)
    kept: list[Any] = []

    def reads_later(*, closes: bool) -> None:
        from django.db import connection

        rows = item.objects.order_by("pk").iterator(chunk_size=1)
        assert next(rows)
        kept.append(rows)
        if closes:
            connection.close()

    def another() -> int:
        from django.db import InterfaceError, transaction

        with transaction.atomic():
            item.objects.create(name="never")
            with pytest.raises(InterfaceError, match="closed"):
                next(kept.pop())
            transaction.set_rollback(False)  # Django marked the block that it found
            number = item.objects.count()
            transaction.set_rollback(True)
            return int(number)

    for closes in (True, False):
        view(partial(reads_later, closes=closes))
        assert view(another) == 6
    eventually(at_rest, "all is back")

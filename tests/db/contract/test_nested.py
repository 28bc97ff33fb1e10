"""A query inside a statement of the same request: while its parameters are made, or between rows that still come."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest

from tests.db.lease.site import Site, at_rest, eventually, fill, held, query, request, view

LIMIT = 20  # seconds; what hangs does so for ever


def within_limit(function: object, *args: object) -> object:
    return request(function, *args).get(timeout=LIMIT)  # type: ignore[arg-type]


def names(item: type) -> Iterator[tuple[str]]:
    """Parameters, each of which asks the database."""
    for number in range(3):
        assert item.objects.filter(name="0").count() == 1  # type: ignore[attr-defined]
        yield (f"made {number}",)


def test_parameters_that_query_while_they_are_sent(site: Site) -> None:
    item = site.start(max_size=1)
    fill(item, 1)

    def work() -> None:
        from django.db import connection, transaction

        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO lease_item (name) VALUES (%s)", names(item))
        assert item.objects.count() == 4
        with pytest.raises(ValueError, match="wanted"), transaction.atomic(), connection.cursor() as cursor:  # noqa: PT012
            cursor.executemany("DELETE FROM lease_item WHERE name = %s", names(item))
            raise ValueError("wanted")
        assert held() is not site.transaction_lease

    within_limit(work)
    assert view(lambda: sorted(item.objects.values_list("name", flat=True))) == ["0", "made 0", "made 1", "made 2"]
    eventually(at_rest, "all is back")


def test_a_transaction_inside_of_parameters_gives_nothing_back_too_early(site: Site) -> None:
    item = site.start(max_size=2)
    fill(item, 1)

    def rows() -> Iterator[tuple[str]]:
        from django.db import transaction

        for number in range(3):
            with transaction.atomic():
                item.objects.create(name=f"inner {number}")
            gevent.sleep(0.01)
            yield (f"outer {number}",)

    def work() -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO lease_item (name) VALUES (%s)", rows())

    def neighbour() -> None:
        from django.db import transaction

        for _ in range(20):
            with pytest.raises(ValueError, match="wanted"), transaction.atomic():  # noqa: PT012 - the block is what raises
                item.objects.create(name="stranger")
                gevent.sleep(0.002)
                raise ValueError("wanted")

    gevent.joinall([request(work), request(neighbour), request(neighbour)], timeout=LIMIT, raise_error=True)
    assert view(item.objects.count) == 7
    assert not view(item.objects.filter(name="stranger").exists)
    eventually(at_rest, "all is back")


def test_a_connection_that_is_closed_inside_of_parameters_is_not_used_on(site: Site) -> None:
    """Django's engine fails too: the statement around has lost its connection."""
    item = site.start(max_size=1)

    def rows() -> Iterator[tuple[str]]:
        from django.db import connection

        yield ("a",)
        connection.close()
        yield ("b",)

    def work() -> None:
        from django.db import Error, connection

        with pytest.raises(Error), connection.cursor() as cursor:
            cursor.executemany("INSERT INTO lease_item (name) VALUES (%s)", rows())

    if site.driver == "psycopg3":
        return  # all parameters are made before the statement takes a connection
    within_limit(work)
    assert view(item.objects.filter(name="b").count) == 0
    eventually(at_rest, "all is back")


class Asks(str):
    """A parameter that queries while psycopg adapts it."""

    __slots__ = ()


def test_a_parameter_that_queries_while_it_is_adapted_is_refused_not_hung(psycopg3_site: Site) -> None:
    from django.db.backends.postgresql.psycopg_any import get_adapters_template
    from psycopg import adapters
    from psycopg.types.string import StrDumper

    class AsksDumper(StrDumper):
        def dump(self, obj: str) -> bytes:
            query("SELECT 1")
            return super().dump(obj)  # type: ignore[return-value]

    adapters.register_dumper(Asks, AsksDumper)
    get_adapters_template.cache_clear()
    psycopg3_site.start(max_size=1)

    def work() -> None:
        from djworker.db.lease.errors import StatementRunning

        with pytest.raises(StatementRunning, match="before the other"):
            query("SELECT %s::text", [Asks("x")])
        assert query("SELECT 1") == (1,)

    within_limit(work)
    eventually(at_rest, "all is back")


def test_a_query_between_streamed_rows_is_refused_and_the_rows_go_on(psycopg3_site: Site) -> None:
    psycopg3_site.start(max_size=1)

    def work() -> list[object]:
        from django.db import connection

        from djworker.db.lease.errors import StatementRunning

        rows = []
        with connection.cursor() as cursor:
            for row in cursor.stream("SELECT generate_series(1, 3)"):
                rows.append(row)
                with pytest.raises(StatementRunning):
                    query("SELECT 1")
        assert query("SELECT 1") == (1,)
        return rows

    assert within_limit(work) == [(1,), (2,), (3,)]
    eventually(at_rest, "all is back")


def test_a_query_inside_of_copy_is_refused_and_the_copy_goes_on(psycopg3_site: Site) -> None:
    item = psycopg3_site.start(max_size=1)

    def work() -> None:
        from django.db import connection

        from djworker.db.lease.errors import StatementRunning

        with connection.cursor() as cursor, cursor.copy("COPY lease_item (name) FROM STDIN") as copy:
            copy.write_row(("a",))
            for inside in (lambda: query("SELECT 1"), connection.commit, lambda: connection.set_autocommit(False)):
                with pytest.raises(StatementRunning):
                    inside()
            copy.write_row(("b",))
        assert held() is not psycopg3_site.transaction_lease

    within_limit(work)
    assert view(item.objects.count) == 2
    eventually(at_rest, "all is back")


def test_two_greenlets_on_one_connection_object_still_take_turns(site: Site) -> None:
    site.start(max_size=1)

    def work() -> None:
        from django.db import connections

        ours = connections["default"]

        def beside() -> None:
            connections["default"] = ours
            query(site.sleep_sql(0.01))

        ours.inc_thread_sharing()
        try:
            others = [gevent.spawn(beside) for _ in range(4)]
            query(site.sleep_sql(0.01))
            gevent.joinall(others, raise_error=True)
        finally:
            ours.dec_thread_sharing()

    within_limit(work)
    eventually(at_rest, "all is back")

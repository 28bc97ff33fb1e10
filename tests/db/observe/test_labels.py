"""Who it is that holds a connection."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from tests.db.lease.site import Site, pool, query
from tests.db.observe import urls
from tests.db.observe.watching import get

URLS = "tests.db.observe.urls"


def holders_while(*, path: str, **settings: Any) -> list[tuple[str, str]]:
    """Text and view of the holders while a request of this path holds a connection."""
    from django.db import transaction

    from djworker.db.observe.labels import view_of

    found: list[tuple[str, str]] = []

    def look() -> None:
        found.extend((slot.label(), view_of(slot.label)) for slot in pool().leased())

    def work() -> None:
        with transaction.atomic():
            query("SELECT 1")
            gevent.spawn(look).join()  # as the house keeping does: from another greenlet

    urls.work[:] = [work]
    status, _ = gevent.spawn(get, path, URLS, **settings).get()
    assert status == "200 OK"
    return found


def test_method_path_and_name_of_the_url(psycopg3_site: Site) -> None:
    psycopg3_site.start()
    assert holders_while(path="/orders/7/") == [("GET /orders/7/ (order)", "order")]


def test_a_url_without_a_name_is_called_by_its_view(psycopg3_site: Site) -> None:
    psycopg3_site.start()
    ((_, view),) = holders_while(path="/plain/7/")
    assert view == "tests.db.observe.urls.order"


def test_a_path_is_shown_as_it_was_meant(psycopg3_site: Site) -> None:
    psycopg3_site.start()
    assert holders_while(path="/orders/zwölf/") == [("GET /orders/zwölf/ (order)", "order")]


def test_a_tenants_own_urls_are_known(psycopg3_site: Site) -> None:
    psycopg3_site.start()
    middleware = ["tests.db.observe.urls.of_tenant"]
    assert holders_while(path="/orders/7/", MIDDLEWARE=middleware) == [
        ("GET /orders/7/ (tenant-order)", "tenant-order")
    ]


def test_a_greenlet_that_a_view_spawned_works_for_its_request(psycopg3_site: Site) -> None:
    psycopg3_site.start()
    found: list[str] = []

    def in_background() -> None:
        from django.db import connection, transaction

        with transaction.atomic():
            query("SELECT 1")
            found.extend(slot.label() for slot in pool().leased())
        connection.close()

    urls.work[:] = [lambda: gevent.spawn(in_background).join()]
    gevent.spawn(get, "/orders/7/", URLS).get()
    assert found == ["GET /orders/7/ (order)"]


def test_a_greenlet_of_nobodys_is_called_by_what_it_runs(psycopg3_site: Site) -> None:
    psycopg3_site.start()
    found: list[str] = []

    class Task:
        def refresh(self) -> None:
            from django.db import connection, transaction

            with transaction.atomic():
                query("SELECT 1")
                found.extend(slot.label() for slot in pool().leased())
            connection.close()

    gevent.spawn(Task().refresh).join()
    assert found[-1].endswith("test_a_greenlet_of_nobodys_is_called_by_what_it_runs.<locals>.Task.refresh")
    assert found[-1].startswith("greenlet tests.db.observe.test_labels.")


def test_the_time_out_names_the_view_that_holds(psycopg3_site: Site) -> None:
    psycopg3_site.start(max_size=1)
    failed: list[str] = []

    def other() -> None:
        from djworker.db.errors import PoolTimeout

        with pytest.raises(PoolTimeout) as caught:
            pool().acquire(timeout=0)
        failed.append(str(caught.value))

    def work() -> None:
        from django.db import transaction

        with transaction.atomic():
            query("SELECT 1")
            gevent.spawn(other).join()

    urls.work[:] = [work]
    gevent.spawn(get, "/orders/7/", URLS, MIDDLEWARE=["tests.db.observe.urls.of_tenant"]).get()
    assert "held by GET /orders/7/ (tenant-order)" in failed[0]

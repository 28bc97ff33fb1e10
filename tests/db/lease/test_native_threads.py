"""Queries in native threads, beside greenlets: each such thread has a connection of its own, and the pool is left alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gevent
import pytest

from tests.db.lease.site import Site, at_rest, eventually, fill, pool, view


def closed_after(function: Callable[[], Any]) -> Callable[[], Any]:
    """As a careful application ends work in a thread of its own."""

    def work() -> Any:
        from django.db import connection

        try:
            return function()
        finally:
            connection.close()

    return work


def in_threadpool(function: Callable[[], Any]) -> Any:
    """gevent's native threads."""
    return gevent.get_hub().threadpool.apply(function)


def in_thread(function: Callable[[], Any]) -> Any:
    """A thread past gevent's patch. Not the original `Thread`, whose own locks are patched: under gevent it may not start."""
    from gevent.monkey import get_original

    found: list[Any] = []
    get_original("_thread", "start_new_thread")(lambda: found.append(function()), ())
    eventually(lambda: bool(found), "the thread has an answer")
    return found[0]


def by_sync_to_async(*, thread_sensitive: bool) -> Callable[[Callable[[], Any]], Any]:
    """From an event loop, as async views do."""

    def run(function: Callable[[], Any]) -> Any:
        from asgiref.sync import async_to_sync, sync_to_async

        from djworker.mold.patches import asyncio_loops

        asyncio_loops.install()

        return async_to_sync(sync_to_async(function, thread_sensitive=thread_sensitive))()

    return run


def in_executor(function: Callable[[], Any]) -> Any:
    """The standard library's, under gevent's patch."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as executor:
        return executor.submit(function).result()


WAYS = {
    "gevent's threadpool": in_threadpool,
    "an unpatched thread": in_thread,
    "sync_to_async, thread-sensitive": by_sync_to_async(thread_sensitive=True),
    "sync_to_async, in any thread": by_sync_to_async(thread_sensitive=False),
    "an executor": in_executor,
}


def test_whoever_queries_first_the_pool_serves_the_requests(site: Site) -> None:
    """The first query of a worker comes from each kind of thread in turn, and requests go on."""
    item = site.start()
    fill(item, 3)
    for way, run in WAYS.items():
        site.start(create=False, max_lifetime=3000 + len(way))  # a pool that nobody has used yet
        from django.db import connections, transaction

        def work() -> int:
            with transaction.atomic():
                return int(item.objects.count())

        assert run(closed_after(work)) == 3, way
        assert view(work) == 3, way
        assert [view(work) for _ in range(5)] == [3] * 5, way
        connections["default"].leased_pool.pool.drain(2)
        eventually(at_rest, f"{way}: nothing is lost")


def test_a_native_thread_waits_alone(leasing: Site) -> None:
    """Twenty greenlets are served while threads wait for the server."""
    item = leasing.start()
    fill(item, 3)
    from django.db import DatabaseError, connection

    def wait() -> None:
        with suppress(DatabaseError), connection.cursor() as cursor:
            cursor.execute(leasing.sleep_sql(30))  # until the server ends its session

    threads = [gevent.get_hub().threadpool.spawn(closed_after(wait)) for _ in range(3)]
    eventually(lambda: leasing.active() == 3, "three wait in the server")
    assert [view(item.objects.count) for _ in range(20)] == [3] * 20
    assert not any(thread.ready() for thread in threads)
    assert pool().stats()["pool_size"] == 1, "they are not the pool's"
    leasing.server.terminate_backends(leasing.database)
    for thread in threads:
        thread.get()


def test_a_connection_of_the_main_thread_is_refused_in_a_native_one(leasing: Site) -> None:
    item = leasing.start()
    fill(item, 1)
    from django.db import connection, connections

    from djworker.db.errors import WrongThread

    ours = connections["default"]
    connection.ensure_connection()
    ours.leased_pool.pool.drain(2)
    ours.inc_thread_sharing()

    def work() -> None:
        with ours.cursor() as cursor:
            cursor.execute("SELECT 1")

    try:
        with pytest.raises(WrongThread, match="main thread"):
            in_threadpool(work)
    finally:
        ours.dec_thread_sharing()
    assert view(item.objects.count) == 1

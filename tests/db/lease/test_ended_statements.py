"""A request that is ended in mid-statement (its deadline, an operator): the server ends that first, and the connection stays."""

from __future__ import annotations

import importlib
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.db.lease.site import Site, at_rest, eventually, pool, query, request, session_of, view
from tests.db.servers import PostgresServer
from tests.db.servers.pgbouncer import PgBouncer

ROUNDS = 60
#: Statements of which the server does not say that they were ended, although it was told.
FASTER = {
    "postgres": "DO $$ BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN END $$",
    "mysql": "SELECT BENCHMARK(100000000000, 1)",
}


def tell(greenlet: Any, error: BaseException) -> None:
    """Raise it where the greenlet waits, as a worker does."""
    import gevent

    gevent.get_hub().loop.run_callback(greenlet.throw, error)


def is_long_under_way(site: Site) -> bool:
    """Whether a statement runs that takes long. PostgreSQL drops a cancel that comes before its execution."""
    if site.dialect == "postgres":
        sql = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event = 'PgSleep'"
        return bool(site.server.execute(sql, (site.database,)))
    return any(word in sql for _, _, sql in site.server.activity(site.database) for word in ("SLEEP", "BENCHMARK"))


@contextmanager
def any_time(site: Site) -> Iterator[None]:
    """The server has as long as it takes to end a statement: on a busy machine a second may be too short."""
    driver = importlib.import_module(f"djworker.db.drivers.{site.driver}")
    before, driver.ENDING_TIMEOUT = driver.ENDING_TIMEOUT, 20.0
    try:
        yield
    finally:
        driver.ENDING_TIMEOUT = before


def ended(site: Site, function: Callable[..., Any], *args: Any) -> None:
    """Begin a request, and end it when its long statement runs in the server."""
    from djworker.deadlines import RequestTimeout

    told = RequestTimeout("not answered within 1 s")
    under_way = request(function, *args)
    eventually(lambda: is_long_under_way(site), "it runs")
    with any_time(site):
        tell(under_way, told)
        under_way.join(20)
    assert under_way.exception is told


def work_in(site: Site, mode: str) -> Callable[[], None]:
    """A view that waits for the server in autocommit mode, or in a transaction that has written."""

    def in_autocommit() -> None:
        query(site.sleep_sql(60))

    def in_transaction() -> None:
        from django.db import transaction

        with transaction.atomic():
            query("INSERT INTO lease_item (name) VALUES ('of a request that was ended')")
            query(site.sleep_sql(60))

    return in_transaction if mode == "atomic" else in_autocommit


@pytest.mark.parametrize("mode", ["autocommit", "atomic"])
def test_the_connection_of_an_ended_statement_is_used_again(site: Site, mode: str) -> None:
    """The session is the same, nothing is written, nothing is left, and the pool has made no other."""
    item = site.start(max_size=1)
    before = view(session_of, "SELECT 1")
    for _ in range(3):
        ended(site, work_in(site, mode))
        assert not is_long_under_way(site)
        assert view(item.objects.count) == 0
        assert view(session_of, "SELECT 1") == before
    eventually(at_rest, "it is back")
    numbers = pool().stats()
    assert (numbers["connections_num"], numbers["connections_cancelled"], numbers["connections_lost"]) == (1, 0, 0)


def test_the_session_of_an_ended_statement_is_wiped(site: Site) -> None:
    """What the request had set is not the next one's."""
    site.start(max_size=1)
    setting, value = (
        ("SET work_mem = '123kB'", "SHOW work_mem") if site.dialect == "postgres" else ("SET @mine = 5", "SELECT @mine")
    )
    fresh = view(query, value)

    def work() -> None:
        query(setting)
        query(site.sleep_sql(60))

    before = view(session_of, "SELECT 1")
    ended(site, work)
    assert view(query, value) == fresh
    assert view(session_of, "SELECT 1") == before


def test_a_transaction_whose_request_was_ended_can_only_be_rolled_back(site: Site) -> None:
    """Even where the view swallows it and goes on; after the rollback it is served as ever."""
    from django.db import DatabaseError, transaction

    from djworker.deadlines import RequestTimeout

    item = site.start(max_size=1)
    seen: list[str] = []

    def go_on() -> None:
        with transaction.atomic():
            item.objects.create(name="half")
            with pytest.raises(RequestTimeout):
                query(site.sleep_sql(60))
            with pytest.raises(DatabaseError):
                query("SELECT 1")
            seen.append("refused")

    def work() -> None:
        with pytest.raises(DatabaseError):
            go_on()
        seen.append(str(item.objects.count()))

    under_way = request(work)
    eventually(lambda: is_long_under_way(site), "it runs")
    with any_time(site):
        tell(under_way, RequestTimeout("over"))
        under_way.get(timeout=20)
    assert seen == ["refused", "0"]
    eventually(at_rest, "it is back")


@pytest.mark.parametrize("mode", ["autocommit", "atomic"])
def test_a_statement_that_ends_in_another_way_costs_its_connection(site: Site, mode: str) -> None:
    """What has become of the cancel is not known then."""
    from django.db import transaction

    item = site.start(max_size=1)
    before = view(session_of, "SELECT 1")

    def work() -> None:
        if mode == "autocommit":
            query(FASTER[site.dialect])
            return
        with transaction.atomic():
            item.objects.create(name="half")
            query(FASTER[site.dialect])

    ended(site, work)
    assert view(session_of, "SELECT 1") != before
    assert view(item.objects.count) == 0
    eventually(at_rest, "it is back")


def test_a_server_that_does_not_answer_costs_a_second_and_the_connection(site: Site) -> None:
    """The request is ended all the same, and the pool goes on as soon as the server does."""
    from djworker.deadlines import RequestTimeout

    site.start(max_size=1)
    before = view(session_of, "SELECT 1")
    told = RequestTimeout("over")
    under_way = request(query, site.sleep_sql(60))
    eventually(lambda: is_long_under_way(site), "it runs")
    site.proxy.deaf()
    tell(under_way, told)
    under_way.join(10)
    assert under_way.exception is told
    site.proxy.start()
    eventually(lambda: not is_long_under_way(site), "the server has stopped it")
    assert view(session_of, "SELECT 1") != before
    eventually(at_rest, "there is one again")


def test_what_ends_the_request_once_more_meanwhile_ends_it_at_once(site: Site) -> None:
    """As the end of the grace does: the connection goes then, and nothing of the first end comes later."""
    import gevent

    from djworker.deadlines import RequestTimeout

    site.start(max_size=1)
    under_way = request(query, site.sleep_sql(60))
    eventually(lambda: is_long_under_way(site), "it runs")
    site.proxy.latency(200)  # of the way on which the server is told
    tell(under_way, RequestTimeout("over"))
    gevent.sleep(0.05)
    tell(under_way, gevent.GreenletExit())
    under_way.join(10)
    site.proxy.latency(0)
    assert under_way.successful(), "gevent takes it for an end like any other"
    assert view(query, "SELECT 7") == (7,)
    gevent.sleep(1.5)  # longer than the first end would have waited
    assert view(query, "SELECT 8") == (8,)
    eventually(at_rest, "there is one again")


def test_ends_at_any_moment_reach_only_their_own_request(site: Site) -> None:
    """Statements that end by themselves about when they are told to: neighbours on the same connections notice nothing."""
    import gevent
    from django.db import transaction

    from djworker.deadlines import RequestTimeout

    item = site.start(max_size=2, timeout=30)
    rng = random.Random(11)
    errors: list[BaseException] = []
    wrong: list[object] = []
    over = threading.Event()

    def short(number: int) -> None:
        with transaction.atomic():
            item.objects.create(name=f"ended {number}")
            query(site.sleep_sql(rng.uniform(0, 0.012)))
            query(site.sleep_sql(rng.uniform(0, 0.012)))
            raise RuntimeError("not committed")

    def neighbour(number: int) -> None:
        while not over.is_set():
            try:
                got = view(query, f"SELECT {number}, {number + 1}")
            except BaseException as error:  # noqa: BLE001 - it is what the test looks for
                errors.append(error)
            else:
                if got != (number, number + 1):
                    wrong.append(got)
            gevent.sleep(0.001)

    neighbours = [gevent.spawn(neighbour, 100 * number) for number in range(3)]
    for number in range(ROUNDS):
        under_way = request(short, number)
        gevent.sleep(rng.uniform(0, 0.02))
        if not under_way.dead:
            tell(under_way, RequestTimeout("over"))
        under_way.join(20)
        assert isinstance(under_way.exception, RequestTimeout | RuntimeError)
    over.set()
    gevent.joinall(neighbours, timeout=20)
    assert not errors
    assert not wrong
    assert view(item.objects.count) == 0
    eventually(at_rest, "all are back")


def test_behind_a_pooler_an_ended_statement_costs_its_connection(postgres_site: Site) -> None:
    """It passes cancels on in its own time."""
    assert isinstance(postgres_site.server, PostgresServer)
    with PgBouncer(postgres_site.server, "session") as bouncer:
        postgres_site.proxy.aim(bouncer.host, bouncer.port)
        item = postgres_site.start(max_size=1)
        view(item.objects.count)
        made = pool().stats()["connections_num"]
        ended(postgres_site, work_in(postgres_site, "atomic"))
        assert view(item.objects.count) == 0
        eventually(at_rest, "there is one again")
        assert pool().stats()["connections_num"] == made + 1

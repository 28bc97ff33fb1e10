"""A planned failover: the name moves to another server, the old one turns read-only, and old sessions stay open."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import gevent
import pytest

from tests.db.backends.conftest import GEVENTPOOL
from tests.db.backends.test_geventpool import start as start_geventpool
from tests.db.faults.clients import RECOVERY, Clients, FragileSite
from tests.db.lease.conftest import SERVERS
from tests.db.lease.site import DRIVERS, eventually, fill, pool, query, view
from tests.db.observe.watching import listening
from tests.db.operator import Operator
from tests.db.proxy import TCPProxy
from tests.db.servers import DatabaseServer

READ_ONLY = {
    "postgres": (
        ("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"),
        ("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"),
    ),
    "mysql": (("SET GLOBAL read_only = 1",), ("SET GLOBAL read_only = 0",)),
}


@dataclass
class Pair(FragileSite):
    """A site, and the server that its name will lead to."""

    promoted: DatabaseServer | None = None

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """The old server, for all its sessions."""
        demote, undo = READ_ONLY[self.dialect]
        try:
            for sql in demote:
                self.server.execute(sql)
            yield
        finally:
            for sql in undo:
                self.server.execute(sql)

    def move(self) -> None:
        """The name."""
        assert self.promoted is not None
        self.proxy.aim(self.promoted.host, self.promoted.port)


@pytest.fixture
def pair(request: pytest.FixtureRequest, fragile: FragileSite) -> Iterator[Pair]:
    """Every driver with both leases, on a server that can be made read-only, and a second server."""
    other: DatabaseServer = request.getfixturevalue(SERVERS[DRIVERS[fragile.driver].dialect])
    other.create_database(fragile.database)
    yield Pair(**fragile.__dict__, promoted=other)
    other.drop_database(fragile.database)


def write(item: type[Any], names: Iterator[int]) -> None:
    """A row, in autocommit or in a transaction."""
    from django.db import transaction

    number = next(names)
    if number % 2:
        item.objects.create(name=f"row {number}")
    else:
        with transaction.atomic():
            item.objects.count()
            item.objects.create(name=f"row {number}")


def writes_follow(pair: Pair, item: type[Any]) -> None:
    """They fail on the server that turns read-only, and go well soon after the name has moved."""
    with listening() as seen, Clients(partial(write, item, count()), 8) as clients:
        clients.wait_for_answers(50)
        with pair.read_only():
            clients.wait_for_failures(30)
            before = pair.proxy.stats()["total"]
            began = time.monotonic()
            gevent.sleep(0.5)  # nowhere to go yet: the pool looks again and again, and makes no storm of it
            connects, seconds = pair.proxy.stats()["total"] - before, time.monotonic() - began
            assert connects <= 3 + 2 * seconds, f"{connects} connects in {seconds:.1f} s"
            pair.move()
            moved = time.monotonic()
            late = clients.first_success(moved) - moved
            assert late <= RECOVERY, f"the first write went well {late:.2f} s after the name had moved"
            eventually(lambda: not pair.sessions(), "every old session is gone")
            settled = len(clients.failed)
            clients.wait_for_answers(50)
            assert len(clients.failed) <= settled + 8, "those that were under way"
    assert len(seen.of("pool_read_only")) == 1
    assert len(seen.of("pool_recovered")) == 1


def test_writes_follow_the_name_to_the_new_primary(pair: Pair) -> None:
    pair.move()
    pair.start(max_size=4)  # the table, there too
    from django.db import connection

    connection.leased_pool.refresh()
    pair.proxy.aim(pair.server.host, pair.server.port)
    item = pair.start(max_size=4, timeout=10)
    writes_follow(pair, item)
    assert view(item.objects.count) > 0
    assert pool().stats()["pool_size"] <= 4


@pytest.fixture(params=["psycopg3", "psycopg2"])
def geventpool_pair(
    request: pytest.FixtureRequest,
    proxy: Callable[[DatabaseServer], TCPProxy],
    postgres_operator: Operator,
    postgres: DatabaseServer,
) -> Iterator[Pair]:
    """django-db-geventpool's engines, on two servers."""
    name, servers = f"geventpool_{request.param}", (postgres_operator.server, postgres)
    for server in servers:
        server.create_database(name)
    own = servers[0]
    yield Pair(request.param, "request", own, proxy(own), name, GEVENTPOOL + request.param, postgres_operator, postgres)
    for server in servers:
        server.drop_database(name)


def test_writes_of_geventpools_engines_follow_the_name(geventpool_pair: Pair) -> None:
    pair = geventpool_pair
    pair.move()
    start_geventpool(pair, MAX_CONNS=4)  # the table, there too
    pair.proxy.aim(pair.server.host, pair.server.port)
    item = start_geventpool(pair, MAX_CONNS=4)
    writes_follow(pair, item)
    assert view(item.objects.count) > 0
    assert pair.promoted is not None
    assert pair.promoted.connections(pair.database) <= 4


# Nothing of these depends on the lease.
once_per_driver = pytest.mark.parametrize(
    "fragile", [(driver, "transaction") for driver in DRIVERS], indirect=True, ids="-".join
)


@once_per_driver
def test_a_write_to_a_replica_costs_its_readers_nothing(pair: Pair) -> None:
    """Somebody routes writes to a replica, again and again: one new connection a second, and the others stay."""
    item = pair.start(max_size=4, timeout=10)
    fill(item, 3)
    with pair.read_only():
        with Clients(item.objects.count, 4) as readers, Clients(partial(item.objects.create, name="x"), 4) as writers:
            writers.wait_for_failures(20)
            before, began = pair.proxy.stats()["total"], time.monotonic()
            writers.wait_for_failures(100)
            connects, seconds = pair.proxy.stats()["total"] - before, time.monotonic() - began
        assert not readers.failed
        assert connects <= 3 + 2 * seconds


@once_per_driver
def test_reads_only_by_wish_keep_their_connections(pair: Pair) -> None:
    """A transaction, a session, or a role that is read-only: the server is not."""
    from django.db import DatabaseError, transaction

    item = pair.start(max_size=2, timeout=10)
    fill(item, 3)
    postgres = pair.dialect == "postgres"

    def write_in_atomic() -> None:
        with transaction.atomic():
            if postgres:
                query("SET TRANSACTION READ ONLY")
            item.objects.create(name="y")

    def careful() -> None:
        if not postgres:
            query("SET SESSION TRANSACTION READ ONLY")
        with pytest.raises(DatabaseError):
            write_in_atomic()

    with listening() as seen:
        before = pair.proxy.stats()["total"]
        for _ in range(5):
            view(careful)
            assert view(item.objects.count) == 3
            gevent.sleep(0.1)  # long enough that some of these may be asked about
        assert pair.proxy.stats()["total"] == before
    assert not seen.records


@pytest.mark.parametrize("fragile", [("psycopg3", "transaction"), ("psycopg2", "transaction")], indirect=True, ids=str)
def test_a_role_that_is_read_only_by_default_keeps_its_connections(pair: Pair) -> None:
    from django.db import DatabaseError

    item = pair.start(max_size=2, timeout=10)
    fill(item, 3)
    pair.server.execute("ALTER ROLE app SET default_transaction_read_only = on")
    try:
        pair.start(create=False, options={"application_name": "reader"}, max_size=2)
        with listening() as seen:
            assert view(item.objects.count) == 3
            before = pair.proxy.stats()["total"]
            for _ in range(5):
                with pytest.raises(DatabaseError):
                    view(partial(item.objects.create, name="y"))
                gevent.sleep(0.1)
            assert pair.proxy.stats()["total"] == before
        assert not seen.records
    finally:
        pair.server.execute("ALTER ROLE app RESET default_transaction_read_only")

"""A server that is full, and one that does not want us: a clear error, and no storm of connects."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from gevent import sleep

from tests.db.faults.clients import RECOVERY, ROOM, Clients, FragileSite
from tests.db.lease.site import DRIVERS, Site, eventually, fill, pool, query

FULL = r"too many clients|remaining connection slots|Too many connections"


class Knocks:
    """Counts connects, as the network sees them."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._before = site.proxy.stats()["total"]
        self._began = time.monotonic()

    def assert_no_storm(self) -> None:
        """A pool's first growth, as much again for what comes of it, and then the back-off: two a second at most."""
        number, seconds = self._site.proxy.stats()["total"] - self._before, time.monotonic() - self._began
        assert number <= 4 * ROOM + 2 * seconds, f"{number} connects in {seconds:.1f} s; {pool().stats()}"


@contextmanager
def strangers(site: Site) -> Iterator[None]:
    """They take every connection that the server has."""
    from django.db import connection

    green, made = connection.leased_pool.driver, []
    params = site.server.params(site.database)  # type: ignore[attr-defined]  # both kinds have it
    try:
        with pytest.raises(green.error, match=FULL):
            made.extend(iter(partial(green.connect, params), None))
        yield
    finally:
        for conn in made:
            green.close(conn)


def work(item: type[Any]) -> None:
    from django.db import transaction

    item.objects.count()
    with transaction.atomic():
        item.objects.first()
        sleep(0.002)


def test_a_full_server(crowded: Site) -> None:
    """Ten are allowed and twenty are wanted: the pool gets along. None is free: that is said, at once."""
    item = crowded.start(max_size=2 * ROOM, timeout=30)
    fill(item, 3)
    from django.db import connection

    knocks = Knocks(crowded)
    with Clients(partial(work, item), 30) as clients:
        clients.wait_for_answers(200)
        assert crowded.sessions() <= ROOM
        knocks.assert_no_storm()
    assert not clients.failed, clients.failed[:1]

    connection.leased_pool.refresh()
    eventually(lambda: not crowded.sessions(), "the pool is empty")
    with strangers(crowded):
        knocks = Knocks(crowded)
        clients = Clients(partial(work, item), 30)
        clients.wait_for_failures(200)
        knocks.assert_no_storm()
    free = time.monotonic()
    with clients:
        late = clients.first_success(free) - free
        assert late <= RECOVERY, f"the first success came {late:.2f} s after there was room"
        clients.wait_for_answers(100)
    assert all("default" in str(outcome.error) or "onnections" in str(outcome.error) for outcome in clients.failed)
    eventually(lambda: crowded.sessions() == pool().stats()["pool_size"], "what was closed has left the server")


def refused(site: FragileSite, message: str, allow: str, **wrong: str) -> None:
    """All that they get is this message, until the server is told to let them in."""
    site.start(create=False, max_size=10, timeout=30)
    from django.db import connections

    connections.settings["default"].update(wrong)
    knocks = Knocks(site)
    with Clients(partial(query, "SELECT 1"), 20) as clients:
        clients.wait_for_failures(200)
        knocks.assert_no_storm()
        assert all(message in str(outcome.error) for outcome in clients.failed)
        site.server.execute(allow)
        allowed = time.monotonic()
        late = clients.first_success(allowed) - allowed
        assert late <= RECOVERY, f"the first success came {late:.2f} s after they were allowed in"


# Whoever does not get in has no lease.
once_per_driver = pytest.mark.parametrize(
    "fragile", [(driver, "transaction") for driver in DRIVERS], indirect=True, ids="-".join
)


@once_per_driver
def test_a_wrong_password(fragile: FragileSite) -> None:
    postgres = fragile.dialect == "postgres"
    change = "ALTER ROLE app PASSWORD '{}'" if postgres else "SET PASSWORD FOR 'app'@'127.0.0.1' = PASSWORD('{}')"
    try:
        refused(fragile, "password" if postgres else "Access denied", change.format("other"), PASSWORD="other")
    finally:
        fragile.server.execute(change.format(fragile.server.password))


@once_per_driver
def test_a_database_that_is_missing(fragile: FragileSite) -> None:
    name = f"late_{fragile.driver}_{fragile.lease}"
    try:
        refused(fragile, name, f"CREATE DATABASE {name}", NAME=name)
    finally:
        fragile.server.drop_database(name)

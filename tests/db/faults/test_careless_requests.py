"""Requests that fail, give up, forget to commit and leave things behind: the next one sees nothing of it."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import Any

import gevent

from tests.db.faults.test_backends_die import settled
from tests.db.lease.site import Site, eventually, fill, query, view

POSTGRES = {
    "clean": """SELECT (SELECT count(*) FROM pg_listening_channels()), current_setting('work_mem'),
        (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())""",
    "expected": (0, "4MB", 0),
    # These fail in a session in which somebody has run them before.
    "leave": (
        "CREATE TEMPORARY TABLE mine (a int)",
        "PREPARE mine AS SELECT 1",
        "DECLARE mine CURSOR WITH HOLD FOR SELECT 1",
    ),
    "set": ("LISTEN mine", "SET work_mem = '5MB'", "SELECT pg_try_advisory_lock(7)"),
    "open": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'",
}
MYSQL = {
    "clean": "SELECT @mine, IS_USED_LOCK('mine') <=> CONNECTION_ID(), @@sql_safe_updates, @@in_transaction",
    "expected": (None, 0, 0, 0),
    "leave": ("CREATE TEMPORARY TABLE mine (a int)",),
    "set": (
        "SET @mine = 1",
        "SELECT GET_LOCK('mine', 0)",
        "SET SESSION sql_safe_updates = 1",
        "PREPARE mine FROM 'SELECT 1'",
    ),
    "open": "SELECT count(*) FROM information_schema.innodb_trx",
}


class Careless:
    """One site's requests of this kind."""

    def __init__(self, site: Site, item: Any) -> None:
        self.item = item
        self.sql: dict[str, Any] = POSTGRES if site.dialect == "postgres" else MYSQL
        self.sleep = site.sleep_sql(30)
        self.deeds = (self.leave, self.fail, self.never_commit, self.begin, self.give_up, self.abandon)
        self.count: Counter[str] = Counter()

    def leave(self) -> None:
        query(random.choice((*self.sql["leave"], *self.sql["set"])))

    def fail(self) -> None:
        from django.db import transaction

        with transaction.atomic():
            self.item.objects.create(name=str(random.random()))
            raise KeyError

    def never_commit(self) -> None:
        from django.db import transaction

        transaction.set_autocommit(False)
        self.item.objects.create(name=str(random.random()))

    def begin(self) -> None:
        query("BEGIN")
        self.item.objects.create(name=str(random.random()))

    def give_up(self) -> None:
        with gevent.Timeout(0.02, False):
            query(self.sleep)

    def abandon(self) -> None:
        """A streaming response whose client went away."""
        rows = self.item.objects.iterator(chunk_size=1)
        assert next(rows).name

    def request(self) -> None:
        assert query(self.sql["clean"]) == self.sql["expected"]
        deed = random.choice(self.deeds)
        self.count[deed.__name__] += 1
        with suppress(KeyError):
            deed()

    def client(self, requests: int) -> None:
        for _ in range(requests):
            view(self.request)


def test_careless_requests_leave_nothing(site: Site) -> None:
    item = site.start(max_size=5, timeout=30)
    fill(item, 5)
    careless = Careless(site, item)
    gevent.joinall([gevent.spawn(partial(careless.client, 15)) for _ in range(20)], raise_error=True)
    assert len(careless.count) == len(careless.deeds)
    assert view(item.objects.count) == 5, "nothing was committed"
    eventually(lambda: settled(site) and not site.active(), "everything is back")
    assert site.server.execute(careless.sql["open"], dbname=site.database) == [(0,)]
    assert site.sessions() <= 5

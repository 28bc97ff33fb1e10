"""Requests that are killed at any moment, in any state: nothing is lost, nothing moves, nobody sees a stranger's settings.

FUZZ_SECONDS makes it longer, for a night.
"""

from __future__ import annotations

import gc
import os
import random
import time
from collections import Counter
from typing import Any

import gevent
import pytest

from tests.db.lease.site import Site, at_rest, eventually, fill, query

SECONDS = float(os.environ.get("FUZZ_SECONDS", "3"))
GREENLETS = 40
pytestmark = pytest.mark.timeout(120 + SECONDS)
POSTGRES = {
    "clean": ("SELECT current_setting('work_mem'), (SELECT count(*) FROM pg_cursors), current_setting('search_path')"),
    "transaction": "SELECT txid_current(), pg_backend_pid()",
    "expected": ("4MB", 0, '"$user", public'),
}
MYSQL = {
    "clean": "SELECT @mine, @@sql_safe_updates, IS_USED_LOCK('mine') <=> CONNECTION_ID()",
    "transaction": "SELECT CONNECTION_ID(), @@autocommit",
    "expected": (None, 0, 0),
}


class Fuzz:
    """One run."""

    def __init__(self, site: Site, item: Any) -> None:
        self.item = item
        self.postgres = site.dialect == "postgres"
        self.sql: dict[str, Any] = POSTGRES if self.postgres else MYSQL
        self.sleep = site.sleep_sql(0.02)
        self.wrong: list[object] = []
        self.deeds = (
            self.read,
            self.read,
            self.transaction,
            self.setting,
            self.tenant,
            self.iterate,
            self.slow,
            self.manual,
        )
        self.count: Counter[str] = Counter()

    def read(self) -> None:
        name = str(random.randrange(60))
        found = self.item.objects.filter(name=name).first()
        gevent.sleep(random.random() * 0.01)
        if found is None or found.name != name:
            self.wrong.append(("mixed rows", name, found and found.name))

    def transaction(self) -> None:
        from django.db import DatabaseError, transaction

        with transaction.atomic():
            before = query(self.sql["transaction"])
            gevent.sleep(random.random() * 0.01)
            if random.random() < 0.3:
                try:
                    with transaction.atomic():
                        query("SELECT nonsense")
                except DatabaseError:
                    pass
            after = query(self.sql["transaction"])
            if before != after:
                self.wrong.append(("moved", before, after))
            if random.random() < 0.3:
                transaction.set_rollback(True)

    def setting(self) -> None:
        number = random.randrange(1001, 9999, 2)  # PostgreSQL shows 4096 kB as 4 MB
        if self.postgres:
            query(f"SET work_mem = '{number}kB'")
        else:
            query(f"SET @mine = {number}")
        gevent.sleep(random.random() * 0.01)
        found = query("SELECT current_setting('work_mem')" if self.postgres else "SELECT @mine")
        if found[0] != (f"{number}kB" if self.postgres else number):
            self.wrong.append(("setting lost", number, found))

    def tenant(self) -> None:
        if not self.postgres:
            query("SELECT GET_LOCK('mine', 0)")
            return
        tenant = random.choice(("red", "blue"))
        query("SELECT set_config('search_path', %s, false)", [f"{tenant},public"])
        gevent.sleep(random.random() * 0.005)
        if query("SELECT name FROM colour") != (tenant,):
            self.wrong.append(("tenant", tenant))

    def iterate(self) -> None:
        names = []
        for found in self.item.objects.order_by("id").iterator(chunk_size=10):
            names.append(found.name)
            if len(names) == 20:
                gevent.sleep(0.002)
        if names != [str(number) for number in range(60)]:
            self.wrong.append(("rows", names))

    def slow(self) -> None:
        query(self.sleep)

    def manual(self) -> None:
        from django.db import transaction

        transaction.set_autocommit(False)
        self.item.objects.first()
        gevent.sleep(0.003)
        (transaction.commit if random.random() < 0.5 else transaction.rollback)()
        transaction.set_autocommit(True)

    def one(self) -> None:
        from django.core.signals import request_finished

        try:
            if (found := query(self.sql["clean"])) != self.sql["expected"]:
                self.wrong.append(("dirty", found))
            for _ in range(random.randint(1, 4)):
                random.choice(self.deeds)()
            self.count["done"] += 1
        except gevent.GreenletExit:
            self.count["killed"] += 1
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            self.count["failed"] += 1
            self.wrong.append(repr(error))
        finally:
            if random.random() < 0.9:
                request_finished.send(sender=None)

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        live: list[gevent.Greenlet] = []
        while time.monotonic() < end:
            live = [greenlet for greenlet in live if not greenlet.dead]
            live += [gevent.spawn(self.one) for _ in range(GREENLETS - len(live))]
            for victim in random.sample(live, 2):
                if random.random() < 0.6:
                    victim.kill(block=False)
            gevent.sleep(0.01)
        gevent.joinall(live, timeout=15)


def test_killed_at_random(site: Site) -> None:
    item = site.start(max_size=5, timeout=15, max_lifetime=1.5, check_after=0.05)
    from django.db import connection

    if site.dialect == "postgres":
        for tenant in ("red", "blue"):
            query(f"CREATE SCHEMA {tenant}")
            query(f"CREATE TABLE {tenant}.colour AS SELECT '{tenant}'::text AS name")
    connection.close()
    fill(item, 60)
    fuzz = Fuzz(site, item)
    fuzz.run(SECONDS)
    gc.collect()
    assert not fuzz.wrong, fuzz.wrong[:5]
    assert fuzz.count["done"] > 0
    assert fuzz.count["killed"] > 0
    eventually(at_rest, "all connections are back")
    eventually(lambda: site.sessions() <= 5 and site.active() == 0, "the server agrees")

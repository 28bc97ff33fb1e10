"""Settings of a database that change while the worker runs: passwords that rotate, and a database for each tenant."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import gevent

from tests.db.lease.site import Site, eventually, fill, pool, query, request, view

TENANTS = 5


@contextmanager
def rotating_user(site: Site) -> Iterator[Any]:
    """A user of our own with a password that can be changed: `change(password)`."""
    admin = site.server.execute
    if site.dialect == "postgres":
        admin("CREATE ROLE rotating LOGIN PASSWORD 'first' IN ROLE app")
        change = "ALTER ROLE rotating PASSWORD '{}'"
        drop = ["DROP ROLE rotating"]
    else:
        admin("CREATE USER 'rotating'@'127.0.0.1' IDENTIFIED BY 'first'")
        admin(f"GRANT ALL ON {site.database}.* TO 'rotating'@'127.0.0.1'")
        change = "SET PASSWORD FOR 'rotating'@'127.0.0.1' = PASSWORD('{}')"
        drop = ["DROP USER 'rotating'@'127.0.0.1'"]
    try:
        yield lambda password: admin(change.format(password))
    finally:
        for sql in drop:
            admin(sql)


def pools_of_default() -> list[Any]:
    """All pools of the alias."""
    from djworker.db.lease import registry

    return [found for found in registry.leased_pools() if found.alias == "default" and found.settings["HOST"]]


def test_a_new_password_keeps_the_pool_and_replaces_its_sessions(leasing: Site) -> None:
    from django.db import connections

    item = leasing.start()
    fill(item, 3)
    with rotating_user(leasing) as change:
        connections["default"].close()
        drain_all()
        known = connections.settings["default"]
        known.update(USER="rotating", PASSWORD="first")
        assert view(item.objects.count) == 3
        ours, first = pool(), view(query, leasing.session_sql)
        for number in range(12):
            change(f"next {number}")
            known["PASSWORD"] = f"next {number}"
            assert view(item.objects.count) == 3
            assert pool() is ours
            assert leasing.sessions() <= 3
        assert view(query, leasing.session_sql) != first, "replaced for the first of them"
        ours.drain(2)
        assert view(item.objects.count) == 3, "the newest password is used"
        eventually(lambda: ours.stats()["pool_size"] == leasing.sessions() == 1, "old sessions are gone")
        drain_all()
        eventually(lambda: not leasing.sessions(), "the user can be dropped")


def test_an_abandoned_query_is_cancelled_with_the_new_password(mysql_site: Site) -> None:
    """On MySQL that takes a login of its own."""
    from django.db import connections

    item = mysql_site.start()
    fill(item, 1)
    with rotating_user(mysql_site) as change:
        connections["default"].close()
        drain_all()
        known = connections.settings["default"]
        known.update(USER="rotating", PASSWORD="first")
        abandoned = request(query, mysql_site.sleep_sql(60))
        eventually(lambda: mysql_site.active() == 1, "it runs in the server")
        change("second")
        known["PASSWORD"] = "second"
        assert view(item.objects.count) == 1
        abandoned.kill()
        eventually(lambda: not mysql_site.active(), "it was stopped there")
        drain_all()
        eventually(lambda: not mysql_site.sessions(), "the user can be dropped")


@contextmanager
def tenants(site: Site) -> Iterator[list[str]]:
    """A database for each, with the table in it."""
    names = [f"{site.database}_{number}" for number in range(TENANTS)]
    for name in names:
        site.server.create_database(name)
    try:
        yield names
    finally:
        for name in names:
            site.server.drop_database(name)


def sessions(site: Site, names: list[str]) -> int:
    """Of all tenants, in one look."""
    table, column = (
        ("pg_stat_activity", "datname") if site.dialect == "postgres" else ("information_schema.processlist", "db")
    )
    among = ", ".join(f"'{name}'" for name in names)
    return int(site.server.execute(f"SELECT count(*) FROM {table} WHERE {column} IN ({among})")[0][0])


def drain_all() -> None:
    """Every pool of the process."""
    from djworker.db.lease import registry

    for one in registry.leased_pools():
        one.pool.drain(2)


@contextmanager
def counted(site: Site, names: list[str]) -> Iterator[list[int]]:
    """How many sessions the server counts, again and again."""
    found: list[int] = []

    def look() -> None:
        while True:
            found.append(sessions(site, names))
            gevent.sleep(0.02)

    looker = gevent.spawn(look)
    try:
        yield found
    finally:
        looker.kill()


def test_names_that_come_and_go_share_one_bound(site: Site) -> None:
    """One alias, whose `settings_dict` says which database it is for this request."""
    site.start(timeout=30)  # all connect, one after the other
    base = {"postgres": "SELECT current_database()", "mysql": "SELECT DATABASE()"}[site.dialect]

    def work(name: str) -> str:
        from django.db import connection, transaction

        connection.settings_dict = {**connection.settings_dict, "NAME": name}
        with transaction.atomic():
            found = query(base)
            gevent.sleep(0.005)
        return str(found[0])

    with tenants(site) as names, counted(site, names) as found:
        for _ in range(3):
            requests = [request(work, name) for name in names * 4]
            gevent.joinall(requests, raise_error=True)
            assert [done.get() for done in requests] == names * 4
        assert max(found) <= 3, found
        from djworker.db.lease import registry

        assert registry.stats()["default"]["pool_max"] == 3
        for later in (0, 100, 101):  # seen, unused for long, and empty
            registry.tend(time.monotonic() + later)
            eventually(lambda: not any(one.pool.stats()["pool_closing"] for one in registry.leased_pools()), "closed")
        assert not [one for one in registry.leased_pools() if one.settings["NAME"] in names]
        eventually(lambda: not sessions(site, names), "nothing is left of them")
        assert view(work, names[0]) == names[0], "one that comes back"
        drain_all()


def test_aliases_that_come_at_run_time_share_one_bound(leasing: Site) -> None:
    leasing.start(timeout=30)
    from django.db import connections, transaction

    def work(alias: str) -> int:
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1")
            gevent.sleep(0.005)
            return int(cursor.fetchone()[0])

    with tenants(leasing) as names, counted(leasing, names) as found:
        for name in names:
            connections.databases[name] = {**connections.settings["default"], "NAME": name}
        try:
            requests = [request(work, name) for name in names * 4]
            gevent.joinall(requests, raise_error=True)
            assert max(found) <= 3, found
        finally:
            for name in names:
                del connections.databases[name]
        from djworker.db.lease import registry

        for later in (0, 100, 101):
            registry.tend(time.monotonic() + later)
            eventually(lambda: not any(one.pool.stats()["pool_closing"] for one in registry.leased_pools()), "closed")
        assert not [one for one in registry.leased_pools() if one.alias in names]


def test_a_password_that_is_right_again_helps_at_once(site: Site) -> None:
    """A request's connection is open, without a session, while the password is wrong for a moment."""
    item = site.start()
    fill(item, 2)

    def work() -> int:
        from django.db import OperationalError, connection

        right = connection.settings_dict["PASSWORD"]
        try:
            for wrong in ("françois", "franziska"):
                connection.close()
                connection.settings_dict["PASSWORD"] = wrong
                pool().drain(2)
                for _ in range(2):
                    with suppress(OperationalError):
                        query("SELECT 1")
        finally:
            connection.settings_dict["PASSWORD"] = right
        return int(item.objects.count())

    assert view(work) == 2
    assert view(item.objects.count) == 2

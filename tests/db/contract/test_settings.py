"""Settings of a request follow it from connection to connection, and never reach another request."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import gevent
import pytest

from tests.db.lease.site import Site, at_rest, eventually, held, query, request, session_of, view

TENANTS = ("red", "blue", "green")


def make_tenants(site: Site) -> None:
    for tenant in TENANTS:
        query(f"CREATE SCHEMA {tenant}")
        query(f"CREATE TABLE {tenant}.colour AS SELECT '{tenant}'::text AS name")


def test_tenants_share_two_connections_and_never_meet(postgres_site: Site) -> None:
    postgres_site.start(max_size=2)
    view(make_tenants, postgres_site)
    wrong = []

    def serve(tenant: str) -> None:
        query(f"SET search_path TO {tenant}, public")
        for _ in range(3):
            gevent.sleep(random.random() * 0.002)
            found = query("SELECT name FROM colour")
            if found != (tenant,):
                wrong.append((tenant, found))
        assert not held()

    def stranger() -> None:
        if query("SELECT current_setting('search_path')") != ('"$user", public',):
            wrong.append(("stranger", "search_path"))

    def client() -> None:
        for _ in range(50):
            if random.random() < 0.2:
                view(stranger)
            else:
                view(serve, random.choice(TENANTS))

    gevent.joinall([gevent.spawn(client) for _ in range(20)], raise_error=True)
    assert wrong == []
    assert postgres_site.sessions() == 2
    assert not pool_pins()
    assert at_rest()


def pool_pins() -> dict[str, int]:
    from django.db import connection

    return dict(connection.leased_pool.counters.pins)


SET = {
    "SET": ("SET work_mem = '5MB'", None, "work_mem", "5MB"),
    "SET TO with a parameter": ("SET work_mem TO %s", ["6MB"], "work_mem", "6MB"),
    "SET SESSION": ("set session work_mem to '7MB';", None, "work_mem", "7MB"),
    "SET TIME ZONE": ("SET TIME ZONE 'Asia/Tokyo'", None, "timezone", "Asia/Tokyo"),
    "set_config": ("SELECT set_config('app.tenant', 'it''s me', false)", None, "app.tenant", "it's me"),
    "set_config with parameters": ("SELECT set_config(%s, %s, %s)", ["app.tenant", "x'y", False], "app.tenant", "x'y"),
    "several set_config": (
        "SELECT set_config('app.user', '1', false), set_config('app.tenant', %s, false)",
        ["42"],
        "app.tenant",
        "42",
    ),
}


@pytest.mark.parametrize("what", list(SET))
def test_a_setting_follows_the_lease(postgres_site: Site, what: str) -> None:
    postgres_site.start(max_size=2)
    sql, params, name, value = SET[what]
    look = "SELECT current_setting(%s, true)"
    clean = view(query, look, [name])[0]

    def others() -> None:
        seen = [request(query, look, [name]) for _ in range(4)]
        gevent.joinall(seen, raise_error=True)
        assert {found.get()[0] or None for found in seen} == {clean or None}

    def work() -> None:
        query(sql, params)
        assert not held()
        backends = set()
        for turn in range(200):  # on a busy machine the blocker may have slept before it is asked around it
            if turn >= 10 and len(backends) == 2:
                break
            blocker = request(query, "SELECT pg_sleep(0.02)")
            gevent.sleep(0.01)
            assert query(look, [name])[0] == value
            backends.add(session_of("SELECT 1"))
            blocker.join()
            others()
        assert len(backends) == 2

    view(work)
    others()
    assert not pool_pins()


def test_reset_in_the_same_request(postgres_site: Site) -> None:
    postgres_site.start(max_size=1)

    def work() -> None:
        query("SET work_mem = '5MB'")
        query("RESET work_mem")
        assert query("SHOW work_mem") == ("4MB",)
        query("SET timezone = 'Asia/Tokyo'")
        query("SET timezone TO DEFAULT")
        query("SET work_mem = '6MB'")

    view(work)
    assert view(query, "SHOW work_mem") == ("4MB",)
    assert view(query, "SHOW timezone") == ("UTC",)
    assert not pool_pins()


def test_a_role_follows_and_is_taken_back(postgres_site: Site) -> None:
    postgres_site.start(max_size=1)
    role = f"tenant_{postgres_site.database}"
    postgres_site.server.execute(f"CREATE ROLE {role}")
    postgres_site.server.execute(f"GRANT {role} TO app")

    def work() -> None:
        query(f"SET ROLE {role}")
        gevent.sleep(0)
        assert query("SELECT current_user") == (role,)

    view(work)
    assert view(query, "SELECT current_user") == ("app",)
    postgres_site.server.execute(f"DROP ROLE {role}")


def test_a_setting_in_a_transaction_lives_and_dies_with_it(postgres_site: Site) -> None:
    postgres_site.start(max_size=1)

    def work(end: str) -> str:
        from django.db import transaction

        with transaction.atomic():
            query("SET work_mem = '5MB'")
            if end == "rollback":
                transaction.set_rollback(True)
        view(query, "SELECT 1")
        found: str = query("SHOW work_mem")[0]
        return found

    assert view(work, "commit") == "5MB"
    assert view(work, "rollback") == "4MB"
    assert view(query, "SHOW work_mem") == ("4MB",)
    assert not pool_pins()


def test_a_setting_that_a_savepoint_took_back_pins(postgres_site: Site) -> None:
    postgres_site.start(max_size=1)

    def work() -> None:
        from django.db import transaction

        with transaction.atomic(), suppress(KeyError), transaction.atomic():
            query("SET work_mem = '5MB'")
            raise KeyError
        assert held()
        assert query("SHOW work_mem") == ("4MB",)

    view(work)
    eventually(at_rest, "wiped")
    assert view(query, "SHOW work_mem") == ("4MB",)


def test_a_setting_that_cannot_be_made_again_fails_loudly(postgres_site: Site) -> None:
    postgres_site.start(max_size=1)
    role = f"gone_{postgres_site.database}"
    postgres_site.server.execute(f"CREATE ROLE {role}")
    postgres_site.server.execute(f"GRANT {role} TO app")

    def work() -> None:
        from django.db import DatabaseError

        query(f"SET ROLE {role}")
        view(query, "SELECT 1")
        postgres_site.server.execute(f"DROP ROLE {role}")
        with pytest.raises(DatabaseError):
            query("SELECT current_user")

    view(work)
    eventually(at_rest, "given back")
    assert view(query, "SELECT current_user") == ("app",)


def test_a_setting_is_made_again_after_a_connection_was_left_behind_with_it(postgres_site: Site) -> None:
    postgres_site.start(max_size=1)

    def leave_behind() -> None:
        from django.db import transaction

        query("SET work_mem = '5MB'")
        transaction.set_autocommit(False)
        query("SELECT 1")
        assert held()

    def work() -> None:
        query("SET work_mem = '5MB'")
        gevent.spawn(leave_behind).join()
        eventually(at_rest, "it was taken back, and wiped")
        assert query("SHOW work_mem") == ("5MB",)

    view(work)


READ_BACKS: dict[str, Any] = {
    "postgres": "SELECT lastval()",
    "mysql": "SELECT LAST_INSERT_ID()",
}


def insert(name: str) -> None:
    query("INSERT INTO lease_item (name) VALUES (%s)", [name])


def start_and_ask(site: Site) -> type[Any]:
    """The first question for the last number of a sequence may be refused: the worker did not know that there would be one."""
    item = site.start(max_size=2)

    def first() -> None:
        from django.db import OperationalError

        with suppress(OperationalError):
            query(READ_BACKS[site.dialect])

    view(first)
    eventually(at_rest, "replaced")
    return item


def test_a_read_back_is_answered_while_the_session_is_ours_alone(leasing: Site) -> None:
    item = start_and_ask(leasing)

    def work() -> None:
        insert("mine")
        assert query("SELECT 1") == (1,)
        assert query(READ_BACKS[leasing.dialect])[0] == item.objects.get(name="mine").pk

    view(work)
    eventually(at_rest, "back, and wiped where a number of a sequence was asked for")


def test_a_read_back_from_a_strangers_session_is_refused(leasing: Site) -> None:
    leasing.start(max_size=1)

    def work() -> None:
        from django.db import OperationalError

        insert("mine")
        view(insert, "theirs")
        with pytest.raises(OperationalError, match="other requests may have used"):
            query(READ_BACKS[leasing.dialect])

    def never_wrote() -> None:
        from django.db import OperationalError

        with pytest.raises(OperationalError, match="other requests may have used"):
            query(READ_BACKS[leasing.dialect])

    view(work)
    view(never_wrote)
    eventually(at_rest, "back, and replaced where a number of a sequence was asked for")


def test_a_read_back_is_answered_whatever_stands_before_the_insert(leasing: Site) -> None:
    item = start_and_ask(leasing)

    def work() -> None:
        query("/* audited */ INSERT INTO lease_item (name) VALUES ('mine')")
        assert query(READ_BACKS[leasing.dialect])[0] == item.objects.get(name="mine").pk

    view(work)
    eventually(at_rest, "back, and wiped where a number of a sequence was asked for")


def test_a_read_back_inside_a_transaction_is_as_ever(leasing: Site) -> None:
    item = start_and_ask(leasing)

    def work() -> None:
        from django.db import transaction

        with transaction.atomic():
            insert("mine")
            view(insert, "theirs")
            assert query(READ_BACKS[leasing.dialect])[0] == item.objects.get(name="mine").pk

    view(work)


def test_found_rows_and_warnings(mysql_site: Site) -> None:
    mysql_site.start(max_size=1)

    def work() -> None:
        from django.db import OperationalError

        query("SELECT SQL_CALC_FOUND_ROWS name FROM lease_item LIMIT 1")
        assert query("SELECT FOUND_ROWS()") == (0,)
        query("SELECT 1/0")
        assert query("SELECT @@warning_count")[0] in (0, 1)
        query("SELECT 1")
        view(query, "SELECT 2")
        with pytest.raises(OperationalError, match="other requests may have used"):
            query("SHOW WARNINGS")

    view(work)


def test_a_read_back_from_the_library_is_refused_likewise(mysql_site: Site) -> None:
    mysql_site.start(max_size=1)
    from django.db import connection

    from djworker.db.lease.errors import ReadBackLost

    def mine() -> None:
        query("INSERT INTO lease_item (id, name) VALUES (NULL, 'mine')")
        assert connection.connection.insert_id() == query("SELECT MAX(id) FROM lease_item")[0]

    def disturbed() -> None:
        query("INSERT INTO lease_item (id, name) VALUES (NULL, 'mine too')")
        view(query, "INSERT INTO lease_item (id, name) VALUES (NULL, 'a stranger''s')")
        with pytest.raises(ReadBackLost, match="insert_id"):
            connection.connection.insert_id()
        assert not held()

    view(mine)
    view(disturbed)


def test_settings_of_several_rounds_pin(postgres_site: Site) -> None:
    postgres_site.start(max_size=2)

    def work() -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.executemany("SELECT set_config('app.tenant', %s, false)", [["red"], ["blue"]])
        assert held()
        assert query("SELECT current_setting('app.tenant')") == ("blue",)

    view(work)
    assert view(query, "SELECT current_setting('app.tenant', true)")[0] in ("", None)

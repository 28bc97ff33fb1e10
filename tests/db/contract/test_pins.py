"""State that a statement leaves in its session holds the connection, and is gone before anybody else gets it."""

from __future__ import annotations

import select

import gevent
import pytest

from tests.db.lease.site import Site, at_rest, eventually, held, pool, query, request, session_of, view

POSTGRES = {
    "advisory lock": ("SELECT pg_advisory_lock(77)", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", 0),
    "try lock": ("SELECT pg_try_advisory_lock(78)", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", 0),
    "temporary table": ("CREATE TEMP TABLE tt (x int)", "SELECT to_regclass('pg_temp.tt')", None),
    "select into": ("SELECT 1 AS one INTO TEMPORARY tt", "SELECT to_regclass('pg_temp.tt')", None),
    "LISTEN": ("/* quietly */ listen ch", "SELECT count(*) FROM pg_listening_channels()", 0),
    "cursor with hold": ("DECLARE cc CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) FROM pg_cursors", 0),
    "PREPARE": ("PREPARE pp AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements WHERE name = 'pp'", 0),
    "SET behind a comment": ("/* x */ SET work_mem = '5MB'", "SELECT current_setting('work_mem')", "4MB"),
    "SET before others": ("SET work_mem = '5MB'; SELECT 1", "SELECT current_setting('work_mem')", "4MB"),
    "a function's name in quotes": (
        """SELECT "set_config"('work_mem', '5MB', false)""",
        "SELECT current_setting('work_mem')",
        "4MB",
    ),
    "a lock's name in quotes": (
        """SELECT "pg_advisory_lock"(79)""",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
        0,
    ),
    "pg_settings": (
        "UPDATE pg_settings SET setting = '5MB' WHERE name = 'work_mem'",
        "SELECT current_setting('work_mem')",
        "4MB",
    ),
    "SET among others": ("SELECT 1; SET work_mem = '5MB'", "SELECT current_setting('work_mem')", "4MB"),
    "set_config in a query": (
        "SELECT set_config('work_mem', '5MB', false) FROM generate_series(1, 2)",
        "SELECT current_setting('work_mem')",
        "4MB",
    ),
    "a comment in a call": (
        "SELECT set_config/* x */('work_mem', '5MB', false)",
        "SELECT current_setting('work_mem')",
        "4MB",
    ),
    "a lock with a nested comment": (
        "SELECT pg_advisory_lock /* a /* b */ c */ (80)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
        0,
    ),
    "a comment sign in a string": (
        "SELECT '--', set_config/**/('work_mem', '5MB', false)",
        "SELECT current_setting('work_mem')",
        "4MB",
    ),
    "what looks like a local setting": (
        "SELECT set_config('app.tenant', 'a, true)', false) FROM generate_series(1, 1)",
        "SELECT coalesce(current_setting('app.tenant', true), '')",
        "",
    ),
    "a name with escapes": (
        """SELECT U&"set\\005Fconfig"('work_mem', '5MB', false)""",
        "SELECT current_setting('work_mem')",
        "4MB",
    ),
    "a name with escapes within a comment's reach": (
        """SELECT /* " */ "set_config" /* " */ ('work_mem', '5MB', false)""",
        "SELECT current_setting('work_mem')",
        "4MB",
    ),
    "pg_settings on two lines": (
        "UPDATE\n pg_settings SET setting = '5MB' WHERE name = 'work_mem'",
        "SELECT current_setting('work_mem')",
        "4MB",
    ),
    "INTO with a comment": ("SELECT 1 AS one INTO/**/TEMP tt", "SELECT to_regclass('pg_temp.tt')", None),
    "WITH HOLD with a comment": (
        "DECLARE cc CURSOR WITH/**/HOLD FOR SELECT 1",
        "SELECT count(*) FROM pg_cursors",
        0,
    ),
    "SET behind a string with a semicolon": (
        "SELECT 'a;b'; SET/**/work_mem = '5MB'; SELECT 3",
        "SELECT current_setting('work_mem')",
        "4MB",
    ),
    "CALL behind a comment": (
        "CREATE PROCEDURE pp() LANGUAGE plpgsql AS $$ BEGIN SET work_mem = '5MB'; END $$;\n-- now\nCALL pp(); SELECT 1",
        "SELECT current_setting('work_mem')",
        "4MB",
    ),
    "DO": ("DO $$ BEGIN EXECUTE 'SET work_mem = ''5MB'''; END $$", "SELECT current_setting('work_mem')", "4MB"),
}
MYSQL = {
    "named lock": ("SELECT GET_LOCK('mine', 1)", "SELECT IS_FREE_LOCK('mine')", 1),
    "temporary table": ("CREATE TEMPORARY TABLE tt (x int)", "SELECT @@tmp_table_size > 0", 1),
    "variable": ("SET @mine = 7", "SELECT @mine", None),
    "variable in a query": ("SELECT @mine := 7", "SELECT @mine", None),
    "a block of statements": ("BEGIN NOT ATOMIC SET @mine = 7; END", "SELECT @mine", None),
    "SET": ("SET SESSION sql_safe_updates = 1", "SELECT @@sql_safe_updates", 0),
    "SET behind a comment": ("/* x */ SET sql_safe_updates = 1", "SELECT @@sql_safe_updates", 0),
    "USE": ("USE information_schema", "SELECT DATABASE() = 'information_schema'", 0),
    "PREPARE": ("PREPARE pp FROM 'SELECT 1'", "SELECT 1", 1),
    "variable behind a comment": ("SELECT @mine/**/:=7", "SELECT @mine", None),
    "variable in quotes": ("SELECT @`my own` := 7", "SELECT @`my own`", None),
    "INTO with a comment": ("SELECT 7 INTO/**/@mine", "SELECT @mine", None),
    "a block behind a comment": ("BEGIN/**/NOT ATOMIC SET @mine = 7; END", "SELECT @mine", None),
    "a condition": ("IF GET_LOCK/**/('mine', 1) THEN SELECT 7; END IF", "SELECT IS_FREE_LOCK('mine')", 1),
    "named lock behind a comment": ("SELECT GET_LOCK-- x\n('mine', 1)", "SELECT IS_FREE_LOCK('mine')", 1),
    "FLUSH with an option": ("FLUSH LOCAL TABLES WITH READ LOCK", "SELECT 1", 1),
    "FLUSH of one table": ("FLUSH TABLE lease_item WITH READ LOCK", "SELECT 1", 1),
    "BACKUP LOCK": ("BACKUP LOCK lease_item", "SELECT 1", 1),
    "temporary table in a dump": ("CREATE /*!32302 TEMPORARY */ TABLE tt (x int)", "SELECT 1", 1),
    "LOCK TABLES": ("LOCK TABLES lease_item READ", "SELECT 1", 1),
    "LOCK TABLES behind comments": ("/* nightly */ -- by hand\nLOCK TABLES lease_item READ", "SELECT 1", 1),
    "LOCK TABLES in a dump": ("/*!40000 LOCK TABLES lease_item READ */", "SELECT 1", 1),
}


def pins(site: Site, statement: str, look: str, clean: object) -> None:
    site.start(max_size=2)

    def careless() -> None:
        query(statement)
        assert held(), "not pinned"
        here = session_of("SELECT 1")
        assert session_of("SELECT 2") == here

    view(careless)
    eventually(at_rest, "reset")
    assert [view(query, look)[0] for _ in range(3)] == [clean] * 3
    assert pool().stats()["connections_num"] == 1, "wiped, not replaced"


@pytest.mark.parametrize("what", list(POSTGRES))
def test_postgres_state_pins(postgres_site: Site, what: str) -> None:
    pins(postgres_site, *POSTGRES[what])


@pytest.mark.parametrize("what", list(MYSQL))
def test_mysql_state_pins(mysql_site: Site, what: str) -> None:
    pins(mysql_site, *MYSQL[what])


def test_a_procedure_pins(leasing: Site) -> None:
    leasing.start(max_size=1)
    postgres = leasing.dialect == "postgres"
    body = "LANGUAGE sql AS 'SELECT pg_advisory_lock(80)'" if postgres else "DO GET_LOCK('quiet', 1)"
    view(query, f"CREATE PROCEDURE quiet() {body}")

    def work() -> None:
        query("CALL quiet()")
        assert held()

    view(work)
    look = "SELECT count(*) FROM pg_locks WHERE objid = 80" if postgres else "SELECT IS_USED_LOCK('quiet')"
    assert view(query, look)[0] in (0, None)


@pytest.mark.parametrize("pin_sql", [(), ("set[a-z]+",)], ids=["our word for it", "the project's"])
def test_what_no_reset_undoes_costs_the_connection(postgres_site: Site, pin_sql: tuple[str, ...]) -> None:
    postgres_site.start(max_size=1, pin_sql=pin_sql)

    def careless() -> None:
        query("SELECT setseed(0.5)")
        assert held()

    first = view(session_of, "SELECT 1")
    view(careless)
    assert view(session_of, "SELECT 1") != first
    eventually(lambda: at_rest() and postgres_site.sessions() == 1, "the other one is closed")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 'SET x', 1 AS temp",
        "SELECT pg_advisory_xact_lock(1)",
        "SET LOCAL work_mem = '5MB'",
        "SELECT set_config('work_mem', '5MB', true)",
        "CREATE TABLE reset (temporary int)",
        "SAVEPOINT s",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "SET TRANSACTION READ ONLY",
    ],
)
def test_what_ends_with_the_transaction_does_not_pin(postgres_site: Site, statement: str) -> None:
    postgres_site.start()

    def work() -> None:
        from django.db import transaction

        with transaction.atomic():
            query(statement)
        assert not held()

    view(work)
    assert at_rest()


def test_every_pin_is_counted_with_its_reason_and_view(leasing: Site) -> None:
    leasing.start(pin_sql=[r"my_function"])

    def work() -> None:
        query("SELECT 1 /* my_function() */")
        query("SELECT 2 /* my_function() */")

    view(work)
    from django.db import connection

    assert dict(connection.leased_pool.counters.pins_by_view) == {("pin_sql 'my_function'", "no view"): 1}


def test_a_sticky_block_keeps_one_session(leasing: Site) -> None:
    leasing.start()
    from djworker.db import sticky

    @sticky
    def work() -> tuple[int, int]:
        return session_of("SELECT 1"), session_of("SELECT 1")

    def by_hand() -> None:
        with sticky(using="default"):
            assert not held()
            here = session_of("SELECT 1")
            assert held()
            with sticky():
                assert session_of("SELECT 1") == here
            assert held()
        assert not held()
        first, second = work()
        assert first == second
        assert not held()

    view(by_hand)
    eventually(at_rest, "reset")


def test_lost_in_a_transaction_refuses_until_its_end(leasing: Site) -> None:
    item = leasing.start()

    def work() -> None:
        from django.db import DatabaseError, transaction

        with transaction.atomic():  # `create` marks the block for rollback, as ever
            item.objects.create(name="lost1")
            leasing.server.terminate_backends(leasing.database)
            with pytest.raises(DatabaseError):
                query("SELECT 1")
            with pytest.raises(DatabaseError, match="lost inside this transaction"):
                item.objects.create(name="lost2")
        assert item.objects.count() == 0
        with transaction.atomic():
            item.objects.create(name="found")
        assert item.objects.count() == 1

    view(work)
    eventually(at_rest, "replaced")


def test_a_transaction_that_was_lost_cannot_be_committed(leasing: Site) -> None:
    item = leasing.start()

    def work() -> None:
        from django.db import DatabaseError, transaction

        with pytest.raises(DatabaseError, match="nothing to commit"), transaction.atomic():  # noqa: PT012 - the block is what raises
            query("INSERT INTO lease_item (name) VALUES ('lost')")
            leasing.server.terminate_backends(leasing.database)
            with pytest.raises(DatabaseError):
                query("SELECT 1")
        assert item.objects.count() == 0

    view(work)
    eventually(at_rest, "replaced")


def test_lost_with_state_on_it_refuses_until_the_end_of_the_request(leasing: Site) -> None:
    item = leasing.start()
    lock = "SELECT pg_advisory_lock(5)" if leasing.dialect == "postgres" else "SELECT GET_LOCK('x', 1)"

    def work() -> None:
        from django.db import DatabaseError

        query(lock)
        leasing.server.terminate_backends(leasing.database)
        with pytest.raises(DatabaseError):
            query("SELECT 1")
        with pytest.raises(DatabaseError, match="session state"):
            item.objects.count()

    view(work)
    assert view(item.objects.count) == 0


def all_hung_up() -> bool:
    """Whether the end of each connection of the pool has arrived at its socket."""
    look = select.poll()
    fds = [conn.watch.fd for conn in pool().connections()]
    for fd in fds:
        look.register(fd, select.POLLIN)
    return len(look.poll(0)) == len(fds)


def test_idle_connections_that_died_hurt_nobody(site: Site) -> None:
    from djworker.db.lease.lease import JUST_NOW

    item = site.start()
    gevent.joinall([request(query, site.sleep_sql(0.05)) for _ in range(3)], raise_error=True)
    for _ in range(3):
        site.server.terminate_backends(site.database)
        eventually(lambda: site.sessions() == site.proxy.stats()["open"] == 0, "all backends are gone")
        # The kernel tells us a moment later: a statement sent in between is lost with its session, and never sent again.
        eventually(all_hung_up, "and we could know it")
        gevent.sleep(2 * JUST_NOW)  # a connection that worked so shortly ago is not looked at
        assert view(item.objects.count) == 0


def test_a_killed_query_is_stopped_and_replaced(site: Site) -> None:
    item = site.start(max_size=2)

    def work() -> None:
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.1):
            query(site.sleep_sql(30))
        assert item.objects.count() == 0

    for _ in range(4):
        view(work)
    eventually(lambda: at_rest() and site.active() == 0, "nothing runs any more")
    assert site.sessions() <= 2


def test_a_greenlet_that_dies_inside_a_transaction_leaves_nothing(site: Site) -> None:
    item = site.start(max_size=2)

    def leaky() -> None:
        from django.db import transaction

        transaction.atomic().__enter__()
        item.objects.create(name="never committed")

    for _ in range(5):
        gevent.spawn(leaky).join()
    assert view(item.objects.count) == 0
    eventually(at_rest, "taken back")


def test_waiters_that_are_killed_lose_nothing(site: Site) -> None:
    item = site.start(max_size=1)
    holder = request(query, site.sleep_sql(0.3))
    gevent.sleep(0.1)
    waiters = [request(item.objects.count) for _ in range(6)]
    gevent.sleep(0.05)
    gevent.killall(waiters[:5])
    gevent.joinall([holder, waiters[5]], raise_error=True)
    assert at_rest()
    assert site.sessions() == 1


def test_the_wrapper_may_be_shared_between_greenlets(leasing: Site) -> None:
    item = leasing.start(max_size=2)

    def work() -> None:
        from django.db import connection, connections

        connection.ensure_connection()
        connection.inc_thread_sharing()
        wrapper = connections["default"]

        def other(number: int) -> None:
            connections["default"] = wrapper
            for turn in range(10):
                assert item.objects.filter(name__gte=f"{number}-{turn}").count() == 0
                assert query("SELECT %s", [number]) == (number,)

        gevent.joinall([gevent.spawn(other, number) for number in range(8)], raise_error=True)
        connection.dec_thread_sharing()

    view(work)
    assert at_rest()


def test_strict_mode_wipes_and_rotates(leasing: Site) -> None:
    leasing.start(max_size=3, strict=True)
    state = "SELECT setseed(0.5)" if leasing.dialect == "postgres" else "DO GET_LOCK('x', 0)"

    def work() -> None:
        seen = {session_of("SELECT 1") for _ in range(6)}
        assert len(seen) <= 3
        query(state)

    gevent.joinall([request(work) for _ in range(3)], raise_error=True)
    eventually(at_rest, "wiped")

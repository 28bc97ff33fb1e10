"""A statement that did not run, and whose error was swallowed: what relies on it does not run either."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace

import gevent
import pytest
from gevent.event import Event

from tests.db.lease.site import Site, at_rest, eventually, fill, held_by_another, pool, query, request, view

STATE = {
    "postgres": {
        "setting": "SET search_path TO information_schema",
        "setting behind a comment": "/* tenant */ SET work_mem = '5MB'",
        "role": "SET ROLE NONE",
        "function": "SELECT set_config('app.tenant', 'red', false)",
        "reset": "RESET ALL",
        "lock": "SELECT pg_advisory_lock(7)",
        "temporary table": "CREATE TEMPORARY TABLE mine (n int)",
        "listen": "LISTEN mine",
        "transaction by hand": "BEGIN",
        "block": "DO $$ BEGIN PERFORM set_config('app.tenant', 'red', false); END $$",
        "several": "SELECT 1; SET work_mem = '5MB'",
        "identity": "SELECT pg_backend_pid()",
    },
    "mysql": {
        "variable": "SET @mine = 7",
        "database": "USE information_schema",
        "lock": "SELECT GET_LOCK('mine', 1)",
        "temporary table": "CREATE TEMPORARY TABLE mine (n int)",
        "tables": "LOCK TABLES lease_item READ",
        "transaction by hand": "START TRANSACTION",
        "block": "BEGIN NOT ATOMIC SET @mine = 7; END",
        "identity": "SELECT CONNECTION_ID()",
    },
}


@contextmanager
def taken(site: Site) -> Iterator[None]:
    """Another request holds the only connection: a statement is refused after the pool's timeout."""
    with held_by_another():
        state = pool()._state
        patient, state.limits = state.limits, replace(state.limits, timeout=0.02)
        try:
            yield
        finally:
            state.limits = patient


@contextmanager
def killed_waiting(site: Site) -> Iterator[None]:
    """The view limits its own time, and gives up in the pool's queue."""
    with taken(site), gevent.Timeout(0.01, False):
        yield


@contextmanager
def unreachable(site: Site) -> Iterator[None]:
    """The server is gone."""
    site.proxy.stop()
    try:
        yield
    finally:
        site.proxy.start()


Fault = Callable[[Site], AbstractContextManager[None]]
FAULTS: dict[str, Fault] = {"refused": taken, "killed": killed_waiting, "unreachable": unreachable}


def refuses(sql: str = "SELECT 1") -> None:
    from django.db import OperationalError

    with pytest.raises(OperationalError, match=r"roll back|close"):
        query(sql)


def attempt(site: Site, fault: str, sql: str, params: object = None) -> None:
    """Run it in vain, and swallow the error, as packages do."""
    from django.db import DatabaseError

    ran = False
    with suppress(DatabaseError), FAULTS[fault](site):
        query(sql, params)
        ran = True
    assert not ran


def test_after_state_that_was_not_set_all_is_refused(site: Site) -> None:
    site.start(max_size=1)

    def work(statement: str) -> None:
        from django.db import connection

        attempt(site, "refused", statement)
        refuses()
        refuses()
        connection.close()
        assert query("SELECT 1") == (1,)

    for what, statement in STATE[site.dialect].items():
        try:
            view(work, statement)
        except BaseException as trouble:
            trouble.add_note(what)
            raise
        assert view(query, "SELECT 1") == (1,), f"the next request after {what}"
    eventually(at_rest, "all is back")


def answers() -> bool:
    """Whether a new request is served; an outage may last a moment longer than its cause."""
    from django.db import OperationalError

    with suppress(OperationalError):
        return bool(view(query, "SELECT 1") == (1,))
    return False


#: What code changes a connection or a cursor by. MySQL's libraries have theirs in the object and not in its class.
OF_CONNECTION = {"psycopg3": "adapters", "psycopg2": "notices", "mysqlclient": "converter", "pymysql": "decoders"}
OF_CURSOR = {"psycopg3": "adapters", "psycopg2": "copy_from", "mysqlclient": "_result", "pymysql": "_result"}


def test_after_a_way_behind_the_connection_that_was_refused_all_is_refused(site: Site) -> None:
    item = site.start(max_size=1)

    def of_connection(name: str) -> None:
        from django.db import connection

        getattr(connection.connection, name)

    def of_cursor(name: str) -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            getattr(cursor.cursor, name)

    def in_vain(way: Callable[[str], None], name: str) -> None:
        from django.db import DatabaseError, connection

        connection.ensure_connection()
        with taken(site), pytest.raises(DatabaseError):
            way(name)
        refuses()

    def in_a_block(way: Callable[[str], None], name: str) -> None:
        from django.db import DatabaseError, transaction

        with pytest.raises(DatabaseError), transaction.atomic():  # noqa: PT012 - the block is what raises
            in_vain(way, name)
            item.objects.create(name="without it")

    for way, name in (
        (of_connection, OF_CONNECTION[site.driver]),
        (of_connection, "of_mine"),
        (of_cursor, OF_CURSOR[site.driver]),
    ):
        view(in_vain, way, name)
        view(in_a_block, way, name)
    assert view(item.objects.count) == 0
    eventually(at_rest, "all is back")


@pytest.mark.parametrize("fault", ["killed", "unreachable"])
def test_whatever_kept_it_from_running(site: Site, fault: str) -> None:
    site.start(max_size=1)
    view(query, "SELECT 1")
    statement = "SET @mine = 7" if site.dialect == "mysql" else "SET work_mem = '5MB'"

    def work() -> None:
        attempt(site, fault, statement)
        refuses()

    view(work)
    eventually(answers, "the next request is served")


def test_a_session_that_ends_during_the_statement(site: Site) -> None:
    site.start(max_size=2)
    slow = "SET @mine = SLEEP(20)" if site.dialect == "mysql" else "DO $$ BEGIN PERFORM pg_sleep(20); END $$"

    def work() -> None:
        from django.db import DatabaseError

        def end() -> None:
            eventually(lambda: site.active() == 1, "it runs")
            site.server.terminate_backends(site.database)

        gevent.spawn(end)
        with suppress(DatabaseError):
            query(slow)
        refuses()

    view(work)
    eventually(answers, "the next request is served")


def test_an_atomic_block_does_not_heal_what_was_before_it(site: Site) -> None:
    item = site.start(max_size=1)
    statement = "SET @mine = 7" if site.dialect == "mysql" else "SET work_mem = '5MB'"

    def work() -> None:
        from django.db import DatabaseError, connection, transaction

        attempt(site, "refused", statement)
        with suppress(DatabaseError), transaction.atomic():
            item.objects.create(name="a")
        refuses()
        with pytest.raises(DatabaseError):
            item.objects.create(name="b")
        connection.close()
        assert item.objects.count() == 0

    view(work)


def test_a_plain_query_that_was_refused_harms_no_later_one(site: Site) -> None:
    item = site.start(max_size=1)

    def work() -> None:
        attempt(site, "refused", "SELECT 1")
        assert query("SELECT 1") == (1,)
        item.objects.create(name="a")

    view(work)
    assert view(item.objects.count) == 1


def test_a_setting_that_the_server_refuses_is_no_loss(site: Site) -> None:
    site.start(max_size=1)
    nonsense = "SET nonsense = 1" if site.dialect == "mysql" else "SET work_mem = 'nonsense'"

    def work() -> None:
        from django.db import DatabaseError

        with pytest.raises(DatabaseError):
            query(nonsense)
        assert query("SELECT 1") == (1,)

    view(work)


@pytest.mark.parametrize("fault", ["refused", "killed"])
def test_half_a_transfer_is_never_committed(site: Site, fault: str) -> None:
    item = site.start(max_size=1)
    fill(item, 2)

    def work() -> None:
        from django.db import OperationalError, transaction

        with pytest.raises(OperationalError), transaction.atomic():  # noqa: PT012 - the block is what raises
            attempt(site, fault, "UPDATE lease_item SET name = 'half' WHERE name = '0'")
            with suppress(OperationalError):
                query("UPDATE lease_item SET name = 'other half' WHERE name = '1'")
        assert query("SELECT 1") == (1,), "after the rollback"

    view(work)
    assert view(lambda: sorted(item.objects.values_list("name", flat=True))) == ["0", "1"]
    assert at_rest()


def test_a_savepoint_does_not_heal_the_transaction(site: Site) -> None:
    item = site.start(max_size=1)

    def work() -> None:
        from django.db import DatabaseError, transaction

        with suppress(DatabaseError), transaction.atomic():
            attempt(site, "refused", "SELECT 1")
            for name in ("inner", "again"):
                with suppress(DatabaseError), transaction.atomic():
                    item.objects.create(name=name)
            with suppress(DatabaseError):
                query("INSERT INTO lease_item (name) VALUES ('outer')")
        item.objects.create(name="after")

    view(work)
    assert view(lambda: list(item.objects.values_list("name", flat=True))) == ["after"]


def test_a_transaction_by_set_autocommit_is_refused_until_its_rollback(site: Site) -> None:
    item = site.start(max_size=1)

    def work() -> None:
        from django.db import OperationalError, transaction

        transaction.set_autocommit(False)
        attempt(site, "refused", "SELECT 1")
        for step in (
            lambda: item.objects.create(name="a"),
            transaction.commit,
            lambda: transaction.set_autocommit(True),
        ):
            with pytest.raises(OperationalError):
                step()
        transaction.rollback()
        item.objects.create(name="b")
        transaction.commit()
        transaction.set_autocommit(True)

    view(work)
    assert view(lambda: list(item.objects.values_list("name", flat=True))) == ["b"]


def test_what_a_sticky_block_relies_on(site: Site) -> None:
    site.start(max_size=1)

    def work() -> None:
        from djworker.db import sticky

        with sticky():
            attempt(site, "refused", "SELECT 1")
            refuses()

    view(work)
    assert view(query, "SELECT 1") == (1,)


def test_a_composed_text_that_finds_no_connection(postgres_site: Site) -> None:
    postgres_site.start(max_size=1)

    def work() -> None:
        from django.db.backends.postgresql.psycopg_any import sql

        attempt(postgres_site, "refused", sql.SQL("SET work_mem = {}").format(sql.Literal("5MB")))  # type: ignore[arg-type]
        refuses()

    view(work)


def test_no_row_of_the_statement_before_is_taken_for_an_answer(leasing: Site) -> None:
    leasing.start(max_size=1)

    def work() -> None:
        from django.db import DatabaseError, connection

        with connection.cursor() as cursor:
            cursor.execute("SELECT 41")
            with suppress(DatabaseError), taken(leasing):
                cursor.execute("SELECT 42")
            with pytest.raises(DatabaseError):
                cursor.fetchone()
            assert cursor.description is None

    view(work)


def test_a_read_back_does_not_answer_for_an_insert_that_did_not_run(leasing: Site) -> None:
    item = leasing.start(max_size=1)
    reader = "SELECT LAST_INSERT_ID()" if leasing.dialect == "mysql" else "SELECT lastval()"

    def work() -> None:
        from djworker.db.lease.errors import ReadBackLost

        item.objects.create(name="first")
        attempt(leasing, "refused", "INSERT INTO lease_item (name) VALUES ('second')")
        with pytest.raises(ReadBackLost):
            query(reader)

    view(work)


def test_sessions_that_end_all_the_time_put_no_row_into_a_wrong_schema(postgres_site: Site) -> None:
    item = postgres_site.start(max_size=2)
    query("CREATE SCHEMA tenant")
    query("CREATE TABLE tenant.lease_item (LIKE public.lease_item INCLUDING ALL)")
    from django.db import DatabaseError, connection

    connection.close()
    over = Event()
    asked: list[int] = []

    def storm() -> None:
        """A machine on which a connection takes longer than the pause must not lose each one before it is used."""
        enough = 0
        while not over.wait(0.03):
            if len(asked) >= enough:
                enough = len(asked) + 3
                postgres_site.server.terminate_backends(postgres_site.database)

    def work(number: int) -> None:
        for step in range(3):
            with suppress(DatabaseError):
                query("SET search_path TO tenant")
            with suppress(DatabaseError):
                query("INSERT INTO lease_item (name) VALUES (%s)", [f"{number} {step}"])
            asked.append(step)

    killer = gevent.spawn(storm)
    for start in range(0, 120, 8):
        gevent.joinall([request(work, start + number) for number in range(8)], raise_error=True)
    over.set()
    killer.get()
    eventually(answers, "the storm is over")
    assert view(item.objects.count) == 0, "none in the wrong schema"


def test_no_transaction_begins_on_what_is_lost(site: Site) -> None:
    """Neither by `atomic()` nor by hand: with Django's engine the library refuses, for its connection is closed."""
    item = site.start(max_size=1)

    def work() -> None:
        from django.db import connection, transaction

        from djworker.db.lease.errors import ConnectionLost

        attempt(site, "refused", next(iter(STATE[site.dialect].values())))
        with pytest.raises(ConnectionLost), transaction.atomic():
            raise AssertionError("nothing could run in here")
        with pytest.raises(ConnectionLost):
            connection.set_autocommit(False)
        with pytest.raises(ConnectionLost):
            connection.set_autocommit(True)
        connection.close()
        with transaction.atomic():
            item.objects.create(name="after")

    def lost_behind_django() -> None:
        """The mode was set in the library's object, so that Django does not know of the transaction."""
        from django.db import DatabaseError, connection, transaction

        from djworker.db.lease.errors import ConnectionLost

        connection.ensure_connection()
        if site.dialect == "postgres":
            connection.connection.autocommit = False
        else:
            connection.connection.autocommit(False)
        item.objects.create(name="before")
        site.server.terminate_backends(site.database)
        with pytest.raises(DatabaseError):
            query("SELECT 1")
        with pytest.raises(ConnectionLost), transaction.atomic():
            raise AssertionError("nothing could run in here")

    if site.transaction_lease:
        view(work)
    view(lost_behind_django)
    eventually(at_rest, "all is back")


def test_a_closed_connection_gives_no_cursor_where_the_library_gives_none(site: Site) -> None:
    site.start(max_size=1)

    def work() -> None:
        from django.db import DatabaseError, InterfaceError, connection, transaction

        with suppress(DatabaseError, InterfaceError), transaction.atomic():
            query("SELECT 1")
            connection.close()
            with pytest.raises(InterfaceError) if site.dialect == "postgres" else nullcontext():
                connection.cursor()
            with pytest.raises((DatabaseError, InterfaceError)):
                query("SELECT 1")

    view(work)

"""What the server or the library goes on telling of an earlier statement is told of our own ones only.

Some statements leave untouched what a session may be asked for: the list of warnings, the number of rows found, the last number
of a sequence or of a row. The statement before was ours, and the answer is still a stranger's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any
from uuid import uuid4

import gevent
import gevent.event
import pytest

from tests.db.lease.site import Site, at_rest, eventually, fill, held_by_another, pool, query, request, view

#: A text in it comes back with the warnings.
SECRET = "SELECT CAST('a secret' AS SIGNED)"


def refused(sql: str) -> None:
    from djworker.db.lease.errors import ReadBackLost

    with pytest.raises(ReadBackLost):
        query(sql)


def test_a_strangers_warnings_are_not_shown(mysql_site: Site) -> None:
    mysql_site.start(max_size=1)

    def work(before: str) -> None:
        query(before)
        refused("SHOW WARNINGS")
        refused("SELECT @@warning_count")

    for statement in (
        "SET @mine = 1",
        "SELECT 1",
        "SELECT 'from lease_item'",
        "SELECT EXTRACT(YEAR FROM NOW()) FROM dual",
        "DO 0",
        "SAVEPOINT one",
    ):
        view(query, SECRET)
        view(work, statement)
        eventually(at_rest, "all is back")


def test_a_statement_that_was_not_sent_shows_no_strangers_warnings(mysql_site: Site) -> None:
    mysql_site.start(max_size=1)

    def work() -> None:
        from django.db import DatabaseError

        with pytest.raises((DatabaseError, TypeError)):
            query("SELECT %s, %s", [1])
        refused("SHOW WARNINGS")

    view(query, SECRET)
    view(work)


def test_our_own_warnings_and_errors_are_shown(mysql_site: Site) -> None:
    item = mysql_site.start(max_size=1)
    fill(item, 2)

    def work() -> None:
        from django.db import DatabaseError, transaction

        query("SELECT CAST('ours' AS SIGNED)")
        assert "'ours'" in query("SHOW WARNINGS")[2]
        with transaction.atomic():
            query("SELECT CAST('ours' AS SIGNED)")
            query("SELECT name FROM lease_item")
            assert query("SHOW WARNINGS") is None
            query("UPDATE lease_item SET name = 'other' WHERE name = '1'")
            assert query("SELECT @@warning_count") == (0,)
        with pytest.raises(DatabaseError):
            query("INSERT INTO lease_item (name) VALUES ('other')")
        assert query("SHOW ERRORS")[1] == 1062

    view(query, SECRET)
    view(work)


def test_the_rows_that_a_stranger_found_are_not_counted(mysql_site: Site) -> None:
    item = mysql_site.start(max_size=1)
    fill(item, 5)

    def work() -> None:
        from django.db import transaction

        query("SET @mine = 1")
        refused("SELECT FOUND_ROWS()")
        with transaction.atomic():
            query("SELECT SQL_CALC_FOUND_ROWS name FROM lease_item LIMIT 1")
            assert query("SELECT FOUND_ROWS()") == (5,)

    view(query, "SELECT SQL_CALC_FOUND_ROWS name FROM lease_item LIMIT 1")
    view(work)


def test_a_cursor_that_has_read_rows_does_not_know_a_strangers_number(site: Site) -> None:
    """mysqlclient's `lastrowid` after a SELECT is that of the session's last row."""
    item = site.start(max_size=1)
    fill(item, 7)

    def last(sql: str) -> Any:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(sql)
            return getattr(cursor, "lastrowid", None)

    def ours() -> None:
        made = last("INSERT INTO lease_item (name) VALUES ('ours')")
        if site.dialect == "mysql":
            assert made == item.objects.get(name="ours").pk
        assert last("SELECT 1") in ({made} if site.driver == "mysqlclient" else {0, None})

    view(query, "INSERT INTO lease_item (name) VALUES ('a stranger''s')")
    assert not view(last, "SELECT name FROM lease_item")
    view(ours)


def test_a_number_that_a_strangers_function_took_is_not_told(postgres_site: Site) -> None:
    postgres_site.start(max_size=1)
    view(query, "CREATE TABLE plain (n int)")
    view(
        query,
        "CREATE FUNCTION take() RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('lease_item_id_seq') $$",
    )

    def without_a_sequence(*, in_atomic: bool) -> None:
        from contextlib import nullcontext

        from django.db import OperationalError, transaction

        with transaction.atomic() if in_atomic else nullcontext():
            query("INSERT INTO plain VALUES (1)")
            with pytest.raises(OperationalError):
                query("SELECT lastval()")
            if in_atomic:
                transaction.set_rollback(True)

    def with_one() -> None:
        from django.db import connection, transaction

        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO lease_item (name) VALUES ('ours') RETURNING id")
            made = cursor.fetchone()
        assert query("SELECT lastval()") == made
        connection.close()
        with transaction.atomic():
            query("SELECT 1")
            query("INSERT INTO lease_item (name) VALUES ('ours too')")
            assert query("SELECT lastval()") == query("SELECT id FROM lease_item WHERE name = 'ours too'")

    for in_atomic in (False, True, False, True):
        view(query, "SELECT take()")
        view(partial(without_a_sequence, in_atomic=in_atomic))
        eventually(at_rest, "all is back")
    view(with_one)


def test_our_number_that_is_in_another_session_is_refused_and_not_denied(postgres_site: Site) -> None:
    """The later statement took none, so that its session would know of none; Django's only session tells the earlier one."""
    postgres_site.start(max_size=2)
    view(query, "CREATE TABLE plain (n int)")

    def work() -> None:
        query("INSERT INTO lease_item (name) VALUES ('ours')")
        with held_by_another():
            query("INSERT INTO plain VALUES (1)")
        refused("SELECT lastval()")
        query("INSERT INTO plain VALUES (2)")
        refused("SELECT lastval()")
        made = query("INSERT INTO lease_item (name) VALUES ('ours too') RETURNING id")
        assert query("SELECT lastval()") == made

    view(work)
    eventually(at_rest, "all is back")


def test_our_number_that_is_in_another_session_is_not_told_as_nothing(mysql_site: Site) -> None:
    """MariaDB says NULL of a sequence that its session has not used."""
    mysql_site.start(max_size=2)
    view(query, "CREATE SEQUENCE numbers")

    def work() -> None:
        from django.db import transaction

        query("SELECT NEXTVAL(numbers)")
        with held_by_another():
            query("INSERT INTO lease_item (name) VALUES ('ours')")
        refused("SELECT LASTVAL(numbers)")
        with transaction.atomic():
            made = query("SELECT NEXTVAL(numbers)")
            assert query("SELECT LASTVAL(numbers)") == made

    view(work)
    eventually(at_rest, "all is back")


def test_a_statement_that_makes_no_row_does_not_tell_a_strangers_number(mysql_site: Site) -> None:
    """It has rows, and so the library does not say whether it has made a number."""
    item = mysql_site.start(max_size=1)
    view(query, "CREATE SEQUENCE numbers")
    without_a_row = (
        "SELECT NEXTVAL(numbers)",
        "/* one */ SELECT NEXT VALUE FOR numbers",
        "DELETE FROM lease_item WHERE name = 'none' RETURNING id",
    )

    def strange(sql: str) -> None:
        query(sql)
        refused("SELECT LAST_INSERT_ID()")

    def ours(sql: str) -> None:
        name = sql[:40]
        query("INSERT INTO lease_item (name) VALUES (%s)", [name])
        query(sql)
        assert query("SELECT LAST_INSERT_ID()") == (item.objects.get(name=name).pk,)

    for sql in without_a_row:
        view(query, "INSERT INTO lease_item (name) VALUES (%s)", [f"a stranger's {sql}"[:50]])
        view(strange, sql)
        view(ours, sql)


def test_a_row_without_a_number_does_not_hide_ours_behind_a_strangers(mysql_site: Site) -> None:
    """Of a row with RETURNING the library does not tell whether it has one; the session's last number may be of before.

    It is refused once. From then on our number goes with us into the other session.
    """
    mysql_site.start(max_size=2)
    view(query, "CREATE TABLE plain (n int)")

    def strange() -> None:
        with held_by_another():
            query("INSERT INTO lease_item (name) VALUES (UUID())")

    def ours() -> Any:
        name = str(uuid4())
        query("INSERT INTO lease_item (name) VALUES (%s)", [name])
        with held_by_another():
            query("INSERT INTO plain VALUES (7) RETURNING n")
        return name

    def asked() -> None:
        ours()
        refused("SELECT LAST_INSERT_ID()")

    def told() -> None:
        name = ours()
        assert query("SELECT LAST_INSERT_ID()") == query("SELECT id FROM lease_item WHERE name = %s", [name])

    def kept() -> None:
        made = query("INSERT INTO lease_item (name) VALUES (UUID()) RETURNING id")
        with held_by_another():
            query("INSERT INTO plain VALUES (7) RETURNING n")
        assert query("SELECT LAST_INSERT_ID()") == made

    for work in (asked, told, kept):
        view(strange)
        view(work)
        eventually(at_rest, "all is back")


def test_code_behind_the_connection_is_refused_a_number_that_is_in_another_session(mysql_site: Site) -> None:
    mysql_site.start(max_size=2)
    view(query, "CREATE TABLE plain (n int)")

    def work() -> None:
        from djworker.db.lease.errors import ReadBackLost

        query("INSERT INTO lease_item (name) VALUES (UUID())")
        with held_by_another():
            query("INSERT INTO plain VALUES (7) RETURNING n")
        with pytest.raises(ReadBackLost):
            behind(lambda conn: conn.cursor())

    view(work)
    eventually(at_rest, "all is back")


#: Each makes a row without a number, and has rows, so that the library does not say so.
WITHOUT_A_NUMBER = (
    "INSERT INTO plain VALUES (7) RETURNING n",
    "REPLACE INTO plain VALUES (8) RETURNING n",
    "INSERT INTO lease_item (id, name) VALUES (700, 'by hand') ON DUPLICATE KEY UPDATE name = 'again' RETURNING name",
    "INSERT IGNORE INTO lease_item (id, name) VALUES (700, 'is there') RETURNING id",
)
ASKS = ("SELECT LAST_INSERT_ID()", "SELECT @@identity", "SHOW VARIABLES LIKE 'last_insert_id'")


@pytest.mark.parametrize("in_atomic", [False, True])
def test_a_row_without_a_number_does_not_tell_a_strangers(mysql_site: Site, in_atomic: bool) -> None:  # noqa: FBT001
    """The first question is refused. From then on a session tells of nobody else, and Django's own answer is right."""
    mysql_site.start(max_size=1)
    view(query, "CREATE TABLE plain (n int)")
    refusals = []

    def ours(sql: str, asks: str) -> None:
        from django.db import transaction

        from djworker.db.lease.errors import ReadBackLost

        with transaction.atomic() if in_atomic else nullcontext():
            query(sql)
            try:
                told = query(asks)
            except ReadBackLost:
                refusals.append(sql)
                transaction.set_rollback(True) if in_atomic else None
            else:
                assert int(told[-1]) == 0

    for sql in WITHOUT_A_NUMBER:
        for asks in ASKS:
            view(query, "INSERT INTO lease_item (name) VALUES (UUID())")
            view(ours, sql, asks)
            eventually(at_rest, "all is back")
    assert refusals == [WITHOUT_A_NUMBER[0]]


def test_our_number_that_nobody_knows_is_not_told_as_none(mysql_site: Site) -> None:
    """It was made before the first refusal, and its session is another request's now: what is put in its place is none."""
    item = mysql_site.start(max_size=1)
    view(query, "CREATE TABLE plain (n int)")
    made, learnt = gevent.event.Event(), gevent.event.Event()

    def ours() -> None:
        item.objects.create(name="ours")
        made.set()
        learnt.wait()
        query(WITHOUT_A_NUMBER[0])
        refused("SELECT LAST_INSERT_ID()")

    def theirs() -> None:
        made.wait()
        query("INSERT INTO lease_item (name) VALUES (UUID())")
        query("SELECT 1")
        query(WITHOUT_A_NUMBER[0])

    def learns() -> None:
        query(WITHOUT_A_NUMBER[0])
        refused("SELECT LAST_INSERT_ID()")

    asking = request(ours)
    view(theirs)
    view(learns)
    learnt.set()
    asking.get()
    eventually(at_rest, "all is back")


def test_code_behind_the_connection_is_not_told_a_strangers_number_of_a_row_without_one(mysql_site: Site) -> None:
    mysql_site.start(max_size=1)
    view(query, "CREATE TABLE plain (n int)")
    told: list[Any] = []

    def ours(ask: Callable[[Any], Any]) -> None:
        from djworker.db.lease.errors import ReadBackLost

        query(WITHOUT_A_NUMBER[0])
        try:
            told.append(behind(ask))
        except ReadBackLost:
            told.append("refused")

    def with_a_cursor(conn: Any) -> Any:
        with conn.cursor() as cursor:
            return int(rows(cursor, "SELECT LAST_INSERT_ID()")[0][0])

    for ask in (with_a_cursor, with_a_cursor, lambda conn: int(conn.insert_id() or 0)):
        view(query, "INSERT INTO lease_item (name) VALUES (UUID())")
        view(ours, ask)
        eventually(at_rest, "all is back")
    assert told == ["refused", 0, 0]


def test_the_librarys_number_is_not_a_strangers_after_a_row_that_gives_something_back(mysql_site: Site) -> None:
    item = mysql_site.start(max_size=1)
    told: list[Any] = []

    def ours() -> None:
        from djworker.db.lease.errors import ReadBackLost

        item.objects.create(name=str(uuid4()))
        try:
            told.append(behind(lambda conn: int(conn.insert_id() or 0)))
        except ReadBackLost:
            told.append("refused")

    for _ in range(2):
        view(query, "INSERT INTO lease_item (name) VALUES (UUID())")
        view(ours)
        eventually(at_rest, "all is back")
    assert told == (["refused", 0] if mysql_site.driver == "mysqlclient" else [0, 0])


@pytest.mark.parametrize("shape", ["tuples", "dictionaries"])
def test_the_number_of_a_row_that_gives_it_back_is_told(mysql_site: Site, shape: str) -> None:
    """As the ORM makes rows: without a refusal, and without a statement more before it is asked for."""
    item = mysql_site.start(max_size=1)

    def with_dictionaries() -> None:
        from importlib import import_module

        library = {"mysqlclient": "MySQLdb", "pymysql": "pymysql"}[mysql_site.driver]
        query("BEGIN")  # in a transaction by hand nothing is cleared
        behind(lambda conn: setattr(conn, "cursorclass", import_module(f"{library}.cursors").DictCursor))
        made = query("INSERT INTO lease_item (name) VALUES (UUID()) RETURNING id")
        assert query("SELECT LAST_INSERT_ID() AS id") == made

    def ours() -> None:
        from django.db import transaction

        made = item.objects.create(name=str(uuid4())).pk
        assert query("SELECT LAST_INSERT_ID()") == (made,)
        with transaction.atomic():
            made = item.objects.create(name=str(uuid4())).pk
            assert query("SELECT LAST_INSERT_ID()") == (made,)

    for _ in range(2):
        view(query, "INSERT INTO lease_item (name) VALUES (UUID())")
        view(ours if shape == "tuples" else with_dictionaries)
        eventually(at_rest, "all is back")


def behind(function: Callable[[Any], Any]) -> Any:
    from django.db import connection

    connection.ensure_connection()
    return function(connection.connection)


def rows(cursor: Any, sql: str) -> Any:
    cursor.execute(sql)
    return cursor.fetchall()


def test_code_behind_the_connection_finds_nothing_of_others(site: Site) -> None:
    """A cursor of the library's own asks unseen."""
    item = site.start(max_size=1)
    fill(item, 7)

    def asked(conn: Any) -> None:
        with conn.cursor() as cursor:
            if site.dialect == "mysql":
                assert list(rows(cursor, "SHOW WARNINGS")) == []
                assert tuple(rows(cursor, "SELECT LAST_INSERT_ID()")) == ((0,),)
            else:
                with pytest.raises(conn.OperationalError):
                    rows(cursor, "SELECT lastval()")

    def ours(conn: Any) -> None:
        made = item.objects.create(name="ours")
        with conn.cursor() as cursor:
            asks = "SELECT lastval()" if site.dialect == "postgres" else "SELECT LAST_INSERT_ID()"
            if site.dialect == "mysql":
                assert tuple(rows(cursor, asks)) == ((made.pk,),)

    if site.dialect == "mysql":
        view(query, SECRET)
    view(query, "INSERT INTO lease_item (name) VALUES ('a stranger''s')")
    view(behind, asked)
    view(behind, ours)


def test_looking_behind_begins_no_transaction(postgres_site: Site) -> None:
    """Its characteristics can be set before its first statement only; after a ROLLBACK by hand, psycopg2 believes in one."""
    postgres_site.start(max_size=1)

    def work() -> None:
        from django.db import connection, transaction

        with transaction.atomic():
            connection.connection.looked_at = True  # type: ignore[attr-defined]
            query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            assert query("SHOW transaction_isolation") == ("serializable",)

    def after_a_rollback() -> None:
        from django.db import connection, transaction

        with transaction.atomic():
            query("SELECT 1")
            query("ROLLBACK")
            with connection.connection.cursor() as cursor:  # type: ignore[attr-defined]
                assert list(rows(cursor, "SELECT 7")) == [(7,)]

    for function in (work, after_a_rollback):
        view(query, "INSERT INTO lease_item (name) VALUES (gen_random_uuid())")
        view(function)


def test_a_session_that_was_lost_says_so_to_who_looks_behind(postgres_site: Site) -> None:
    """And not that the library's mode cannot be changed there, which is how we end what we did not begin."""
    postgres_site.start(max_size=1)

    def ended() -> None:
        postgres_site.server.terminate_backends(postgres_site.database)

    def killed() -> None:
        """In the first round trip from now on."""
        here: Any = gevent.getcurrent()
        here.kill(gevent.Timeout(), block=False)

    def work(trouble: Callable[[], None]) -> None:
        from django.db import connection

        query("SELECT pg_advisory_lock(7)")
        connection.set_autocommit(False)
        trouble()
        with pytest.raises((connection.Database.OperationalError, gevent.Timeout)):  # type: ignore[attr-defined]
            connection.connection.cursor()  # type: ignore[attr-defined]
        connection.close()
        assert query("SELECT 1") == (1,)

    for trouble in (ended, killed):
        view(query, "INSERT INTO lease_item (name) VALUES (gen_random_uuid())")
        view(work, trouble)
        eventually(at_rest, "all is back")


def test_our_own_number_goes_with_us_to_a_session_that_is_looked_behind(mysql_site: Site) -> None:
    item = mysql_site.start(max_size=1)

    def work() -> None:
        from django.db import connection

        query("INSERT INTO lease_item (name) VALUES ('ours')")
        made = item.objects.get(name="ours").pk
        pool().drain(2.0)  # as when it has grown too old
        cursor = connection.connection.cursor()  # type: ignore[attr-defined]
        assert tuple(rows(cursor, "SELECT LAST_INSERT_ID()")) == ((made,),)
        assert query("SELECT @@identity") == (made,)

    view(work)


def test_our_own_number_that_was_taken_away_is_refused(postgres_site: Site) -> None:
    item = postgres_site.start(max_size=1)

    def work() -> None:
        from django.db import connection

        item.objects.create(name="ours")
        connection.connection.looked_at = True  # type: ignore[attr-defined]
        refused("SELECT lastval()")

    view(query, "INSERT INTO lease_item (name) VALUES ('a stranger''s')")
    view(work)


def test_nothing_is_sent_while_there_are_results_to_come(mysql_site: Site) -> None:
    mysql_site.start(max_size=1)
    view(query, "CREATE PROCEDURE two() BEGIN SELECT 1; SELECT 2; END")

    def work() -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("CALL two()")
            assert cursor.fetchone() == (1,)
            connection.connection.looked_at = True  # type: ignore[attr-defined]
            assert cursor.nextset()
            assert cursor.fetchone() == (2,)

    view(work)


def test_a_cursor_made_from_the_librarys_class_works(mysql_site: Site) -> None:
    mysql_site.start(max_size=1)

    def work(conn: Any) -> None:
        from MySQLdb import cursors

        cursor = cursors.DictCursor(conn)
        assert cursor.execute("SELECT 7 AS n") == 1
        assert list(cursor.fetchall()) == [{"n": 7}]
        assert not cursor.lastrowid
        cursor.close()

    view(query, "INSERT INTO lease_item (name) VALUES ('a stranger''s')")
    view(behind, work)

"""What the statement before has left in its session is answered by our own statement, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import gevent
import pytest

from tests.db.lease.site import Site, at_rest, eventually, fill, query, request, view


def asks(site: Site) -> str:
    return "SELECT lastval()" if site.dialect == "postgres" else "SELECT LAST_INSERT_ID()"


def test_a_session_that_we_hold_does_not_tell_what_a_stranger_wrote(site: Site) -> None:
    """In a transaction, with a request's lease, and pinned: the session was a stranger's before."""
    item = site.start(max_size=1)
    fill(item, 3)

    def in_a_transaction() -> None:
        from django.db import transaction

        from djworker.db.lease.errors import ReadBackLost

        with transaction.atomic():
            query("SELECT 1")
            with pytest.raises(ReadBackLost):
                query(asks(site))
            transaction.set_rollback(True)

    def held_for_state() -> None:
        from djworker.db.lease.errors import ReadBackLost

        query("SELECT 1")
        query("CREATE TEMPORARY TABLE mine (n int)")
        with pytest.raises(ReadBackLost):
            query(asks(site))

    def ours() -> None:
        from django.db import transaction

        with transaction.atomic():
            made = item.objects.create(name="ours")
            query("SELECT 1")
            assert query(asks(site))[0] == made.pk

    for function in (in_a_transaction, held_for_state, ours):
        view(function)
        eventually(at_rest, "wiped")


def test_an_insert_that_made_no_number_does_not_tell_a_strangers(mysql_site: Site) -> None:
    item = mysql_site.start(max_size=1)
    query("CREATE TABLE plain (n int)")
    from django.db import connection

    connection.close()
    fill(item, 3)

    def work(function: Callable[[], object]) -> None:
        from django.db import transaction

        from djworker.db.lease.errors import ReadBackLost

        with transaction.atomic():
            query("INSERT INTO plain VALUES (1)")
            with pytest.raises(ReadBackLost):
                function()
            transaction.set_rollback(True)

    view(work, lambda: query(asks(mysql_site)))


def test_the_librarys_own_number_is_not_a_strangers(mysql_site: Site) -> None:
    item = mysql_site.start(max_size=1)

    def work() -> None:
        from django.db import connection

        from djworker.db.lease.errors import ReadBackLost

        connection.ensure_connection()
        with pytest.raises(ReadBackLost):
            connection.connection.insert_id()
        query("SELECT 1")
        if mysql_site.driver == "pymysql":
            assert not connection.connection.insert_id()
        else:  # a SELECT leaves mysqlclient's number as it was
            with pytest.raises(ReadBackLost):
                connection.connection.insert_id()
        query("INSERT INTO lease_item (name) VALUES ('ours')")
        assert connection.connection.insert_id() == item.objects.get(name="ours").pk

    view(query, "INSERT INTO lease_item (name) VALUES ('a stranger''s')")
    view(work)


def test_the_rows_of_a_procedure_do_not_tell_a_strangers_number(mysql_site: Site) -> None:
    mysql_site.start(max_size=1)
    view(query, "CREATE PROCEDURE two() BEGIN SELECT 1; SELECT 2; END")
    view(query, "INSERT INTO lease_item (name) VALUES ('a stranger''s')")

    def work(sql: str) -> None:
        from django.db import transaction

        from djworker.db.lease.errors import ReadBackLost

        with transaction.atomic():
            query(sql)
            with pytest.raises(ReadBackLost):
                query("SELECT LAST_INSERT_ID()")
            transaction.set_rollback(True)

    for sql in ("CALL two()", "WITH one AS (SELECT 1) SELECT * FROM one"):
        view(work, sql)


def test_atomic_in_a_transaction_by_hand_loses_none_of_it(site: Site) -> None:
    """psycopg 3 refuses to change the mode there, as with Django's engine; the others go on in the same transaction."""
    item = site.start(max_size=1)

    def work() -> None:
        from django.db import ProgrammingError, transaction

        query("BEGIN")
        query("INSERT INTO lease_item (name) VALUES ('by hand')")
        if site.driver == "psycopg3":
            with pytest.raises(ProgrammingError), transaction.atomic():
                query("INSERT INTO lease_item (name) VALUES ('inside')")
        else:
            with transaction.atomic():
                query("INSERT INTO lease_item (name) VALUES ('inside')")
        query("COMMIT")

    view(work)
    eventually(at_rest, "all is back")
    expected = ["by hand"] if site.driver == "psycopg3" else ["by hand", "inside"]
    assert view(lambda: sorted(item.objects.values_list("name", flat=True))) == expected


def test_a_transaction_by_hand_that_is_lost_is_not_gone_on_with(site: Site) -> None:
    item = site.start(max_size=1)

    def work() -> None:
        from django.db import DatabaseError, OperationalError

        query("BEGIN")
        query("INSERT INTO lease_item (name) VALUES ('first half')")
        site.server.terminate_backends(site.database)
        with pytest.raises(DatabaseError):
            query("INSERT INTO lease_item (name) VALUES ('lost')")
        with pytest.raises(OperationalError):
            query("INSERT INTO lease_item (name) VALUES ('second half')")

    view(work)
    assert view(item.objects.count) == 0


def test_a_transaction_by_hand_in_which_a_question_was_refused_does_nothing_more(site: Site) -> None:
    """As in a server that has refused a statement of it: what the caller swallowed must not become half of a transfer."""
    item = site.start(max_size=1)
    fill(item, 3)

    def by_hand() -> None:
        from django.db import connection

        from djworker.db.lease.errors import ConnectionLost, ReadBackLost

        query("BEGIN")
        with pytest.raises(ReadBackLost):
            query(asks(site))
        for statement in ("INSERT INTO lease_item (name) VALUES ('half')", "SELECT 1", "COMMIT"):
            with pytest.raises(ConnectionLost):
                query(statement)
        connection.close()
        item.objects.create(name="after")

    view(by_hand)
    eventually(at_rest, "wiped")
    assert not item.objects.filter(name="half").exists()
    assert item.objects.filter(name="after").exists()


def test_our_own_question_does_not_answer_for_the_statement_before_it(mysql_site: Site) -> None:
    item = mysql_site.start(max_size=1)
    fill(item, 3)

    def work() -> None:
        from django.db import connection, transaction

        from djworker.db.lease.errors import ReadBackLost

        query("SELECT SQL_CALC_FOUND_ROWS name FROM lease_item LIMIT 1")
        assert connection.is_usable()
        with pytest.raises(ReadBackLost):
            query("SELECT FOUND_ROWS()")
        with transaction.atomic():
            query("SELECT SQL_CALC_FOUND_ROWS name FROM lease_item LIMIT 1")
            assert query("SELECT FOUND_ROWS()") == (3,)
            assert connection.is_usable()
            with pytest.raises(ReadBackLost):
                query("SELECT FOUND_ROWS()")
            transaction.set_rollback(True)

    view(work)


def test_an_atomic_block_in_which_a_question_was_refused_does_nothing_more(site: Site) -> None:
    """Neither in the block, nor in one inside it: not only the commit is refused, for a statement may wait for others' locks."""
    item = site.start(max_size=1)
    fill(item, 3)

    def work() -> None:
        from django.db import DatabaseError, transaction

        from djworker.db.lease.errors import ConnectionLost, ReadBackLost

        with pytest.raises(DatabaseError), transaction.atomic():  # noqa: PT012 -- the block is what raises
            query("SELECT 1")
            with pytest.raises(ReadBackLost):
                query(asks(site))
            for statement in ("INSERT INTO lease_item (name) VALUES ('half')", "SELECT 1"):
                with pytest.raises(ConnectionLost):
                    query(statement)
            with suppress(DatabaseError), transaction.atomic():
                item.objects.create(name="inside")
        item.objects.create(name="after")

    view(work)
    assert view(lambda: sorted(item.objects.values_list("name", flat=True))) == ["0", "1", "2", "after"]
    eventually(at_rest, "all is back")


def test_a_sticky_block_in_which_a_question_was_refused_does_nothing_more(site: Site) -> None:
    item = site.start(max_size=1)
    fill(item, 3)

    def work() -> None:
        from djworker.db import sticky
        from djworker.db.lease.errors import ConnectionLost, ReadBackLost

        with sticky():
            query("SELECT 1")
            with pytest.raises(ReadBackLost):
                query(asks(site))
            with pytest.raises(ConnectionLost):
                item.objects.create(name="half")

    view(work)
    assert view(item.objects.count) == 3
    eventually(at_rest, "wiped")


def test_the_last_number_of_a_sequence_is_told_from_the_second_time_on(mysql_site: Site) -> None:
    """The first question tells that numbers are asked for: from then on no session keeps those of others."""
    mysql_site.start(max_size=2)
    view(query, "CREATE SEQUENCE numbers")
    view(query, "CREATE TABLE numbered (id int DEFAULT (NEXTVAL(numbers)), name varchar(20))")
    insert = "INSERT INTO numbered (name) VALUES ('a') RETURNING id"

    def stranger() -> None:
        query(insert)
        query("SELECT 1")

    def in_a_block(*before: str) -> None:
        from django.db import transaction

        with transaction.atomic():
            for statement in before:
                query(statement)
            made = query(insert)
            query("SELECT 1")
            assert query("SELECT LASTVAL(numbers)") == made

    def outside() -> None:
        query("SELECT 1")
        made = query(insert)
        query("SELECT 1")
        assert query("SELECT LASTVAL(numbers)") == made

    def first_time() -> None:
        from djworker.db.lease.errors import ReadBackLost

        query("SELECT 1")
        with pytest.raises(ReadBackLost):
            query("SELECT LASTVAL(numbers)")

    view(stranger)
    view(first_time)
    for _ in range(2):
        for work in (
            in_a_block,
            outside,
            partial(in_a_block, "SELECT 1"),
            partial(in_a_block, "SELECT COUNT(*) FROM numbered"),
        ):
            view(stranger)
            view(work)


def test_the_number_of_a_row_with_returning_is_told_behind_the_connection_or_refused(mysql_site: Site) -> None:
    """The library does not tell it. Never nothing, and never a stranger's; from the second time on, always."""
    item = mysql_site.start(max_size=2)

    def asked_behind() -> int:
        from django.db import connection

        with connection.connection.cursor() as cursor:
            cursor.execute("SELECT LAST_INSERT_ID()")
            return int(cursor.fetchone()[0])

    def alone() -> None:
        assert asked_behind_after("alone") == 0

    def asked_behind_after(name: str) -> int:
        made = query("INSERT INTO lease_item (name) VALUES (%s) RETURNING id", [name])[0]
        return asked_behind() - int(made)

    def used_meanwhile(name: str) -> None:
        made = query("INSERT INTO lease_item (name) VALUES (%s) RETURNING id", [name])[0]
        gevent.joinall([request(query, mysql_site.sleep_sql(0.05)) for _ in range(2)], raise_error=True)
        query("SELECT 1")
        assert asked_behind() == made

    def refused(name: str) -> None:
        from django.db import connection

        from djworker.db.lease.errors import ConnectionLost, ReadBackLost

        with pytest.raises(ReadBackLost):
            used_meanwhile(name)
        with pytest.raises(ConnectionLost):  # what code wanted to do behind it was not done
            query("SELECT 1")
        connection.close()
        query("SELECT 1")

    view(alone)
    view(refused, "first")
    for name in ("second", "third"):
        view(used_meanwhile, name)
    assert view(item.objects.count) == 4
    eventually(at_rest, "replaced")

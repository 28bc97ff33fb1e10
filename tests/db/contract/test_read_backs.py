"""What the statement before has left in its session is answered by our own statement, or not at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.db.lease.site import Site, at_rest, eventually, fill, query, view


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

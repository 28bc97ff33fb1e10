"""When a request holds a connection, and when not. Both leases, every driver, real servers."""

from __future__ import annotations

import gevent
import pytest

from tests.db.lease.site import Site, at_rest, by_another, eventually, fill, held, pool, query, request, view


def test_autocommit_gives_back_after_each_statement(site: Site) -> None:
    item = site.start()

    def work() -> None:
        item.objects.create(name="a")
        assert held() is not site.transaction_lease
        assert item.objects.count() == 1
        assert held() is not site.transaction_lease

    view(work)
    assert at_rest()
    assert pool().stats()["connections_num"] == 1


def test_atomic_holds_from_its_first_statement_to_its_end(site: Site) -> None:
    item = site.start()

    def work() -> None:
        from django.db import IntegrityError, transaction

        with transaction.atomic():
            assert not held()
            item.objects.create(name="b")
            assert held()
            with transaction.atomic():
                item.objects.create(name="c")
            with pytest.raises(IntegrityError), transaction.atomic():
                item.objects.create(name="c")
            assert held()
        assert held() is not site.transaction_lease
        assert item.objects.count() == 2

    view(work)
    assert at_rest()


def test_an_empty_atomic_costs_nothing(site: Site) -> None:
    site.start()

    def work() -> None:
        from django.db import transaction

        with transaction.atomic(), transaction.atomic(savepoint=False):
            pass

    before = pool().stats()["requests_num"]
    view(work)
    assert pool().stats()["requests_num"] == before


def test_on_commit_hooks_run_after_the_return_and_may_query(site: Site) -> None:
    item = site.start()

    def work() -> list[tuple[bool, int]]:
        from django.db import transaction

        seen = []
        with transaction.atomic():
            item.objects.create(name="d")
            transaction.on_commit(lambda: seen.append((held(), item.objects.filter(name="d").count())))
        return seen

    assert view(work) == [(not site.transaction_lease, 1)]


def test_rollback_undoes_and_gives_back(site: Site) -> None:
    item = site.start()

    def work() -> None:
        from django.db import transaction

        with pytest.raises(ValueError, match="wanted"), transaction.atomic():  # noqa: PT012 - the block is what raises
            item.objects.create(name="e")
            raise ValueError("wanted")
        assert held() is not site.transaction_lease
        assert not item.objects.exists()

    view(work)
    assert at_rest()


def test_iterator_reads_to_its_end_with_queries_in_between(site: Site) -> None:
    item = site.start()
    fill(item, 7)

    def work() -> None:
        names = []
        for found in item.objects.order_by("id").iterator(chunk_size=2):
            names.append(found.name)
            assert item.objects.filter(pk=found.pk).count() == 1
            if site.dialect == "postgres":
                assert held()
        assert names == [str(number) for number in range(7)]
        assert held() is not site.transaction_lease

    view(work)
    assert at_rest()


def test_an_iterator_left_half_read_leaves_nothing(postgres_site: Site) -> None:
    item = postgres_site.start()
    fill(item, 7)

    def work() -> None:
        for _ in item.objects.order_by("id").iterator(chunk_size=2):
            break

    for _ in range(5):
        view(work)
    eventually(at_rest, "the connections are back")
    assert [view(query, "SELECT count(*) FROM pg_cursors")[0] for _ in range(3)] == [0, 0, 0]


def test_rows_outlive_the_lease(site: Site) -> None:
    item = site.start(max_size=1)
    fill(item, 5)

    def work() -> None:
        from django.db import connection

        cursor = connection.cursor()
        cursor.execute("SELECT name FROM lease_item ORDER BY id")
        assert cursor.fetchone() == ("0",)
        if site.transaction_lease:
            gevent.joinall([gevent.spawn(view, item.objects.count) for _ in range(8)], raise_error=True)
            pool().drain(1)
            eventually(lambda: site.sessions() == 0, "the connection is closed")
        assert [row[0] for row in cursor.fetchmany(2)] == ["1", "2"]
        assert [row[0] for row in cursor.fetchall()] == ["3", "4"]
        assert cursor.fetchone() is None
        cursor.close()

    view(work)


def test_manual_transactions_hold_from_their_first_statement(site: Site) -> None:
    item = site.start()

    def work() -> None:
        from django.db import transaction

        transaction.set_autocommit(False)
        assert not held()
        item.objects.create(name="m")
        assert held()
        transaction.commit()
        item.objects.create(name="n")
        transaction.rollback()
        transaction.set_autocommit(True)
        assert held() is not site.transaction_lease
        assert item.objects.count() == 1

    view(work)
    assert at_rest()


def test_autocommit_left_off_reaches_nobody_else(site: Site) -> None:
    item = site.start(max_size=1)

    def careless(statement: bool) -> None:  # noqa: FBT001
        from django.db import transaction

        transaction.set_autocommit(False)
        if statement:
            item.objects.create(name="never committed")

    def next_one() -> int:
        item.objects.create(name="n")
        count: int = item.objects.count()
        item.objects.all().delete()
        return count

    for statement in (False, True):
        view(careless, statement)
        assert view(next_one) == 1


def test_a_transaction_by_hand_is_held(site: Site) -> None:
    item = site.start()

    def work() -> None:
        query("BEGIN")
        assert held()
        item.objects.create(name="x")
        assert held()
        query("ROLLBACK")
        assert held() is not site.transaction_lease
        assert item.objects.count() == 0

    view(work)
    assert at_rest()


def test_a_statement_that_fails_gives_back(site: Site) -> None:
    site.start()

    def work() -> None:
        from django.db import DatabaseError

        with pytest.raises(DatabaseError):
            query("SELECT nonsense FROM nowhere")
        assert held() is not site.transaction_lease
        assert query("SELECT 1") == (1,)

    view(work)
    assert at_rest()


def test_the_view_that_waits_for_somebody_else_holds_nothing(leasing: Site) -> None:
    item = leasing.start(max_size=1, timeout=5)
    inside = []

    def slow() -> None:
        item.objects.count()
        inside.append(1)
        eventually(lambda: len(inside) == 20, "twenty views wait at the same time, on one connection")
        item.objects.count()

    views = [request(slow) for _ in range(20)]
    gevent.joinall(views, raise_error=True)
    assert leasing.sessions() == 1


def test_children_query_while_their_parent_holds_a_transaction(site: Site) -> None:
    """Three of four connections are held, and all children come through the fourth."""
    item = site.start(max_size=4, timeout=20)

    def parent(number: int) -> None:
        from django.db import transaction

        with transaction.atomic():
            item.objects.create(name=str(number))
            children = [gevent.spawn(view, item.objects.count) for _ in range(4)]
            gevent.joinall(children, raise_error=True)

    for first in (0, 3, 6):
        gevent.joinall([request(parent, number) for number in range(first, first + 3)], raise_error=True)
    assert view(item.objects.count) == 9
    assert at_rest()


def test_hold_and_wait_ends_with_the_names_of_the_holders(site: Site) -> None:
    """Four of four are held, and their holders wait for children who want a fifth."""
    item = site.start(min_size=4, max_size=4, timeout=1)
    eventually(lambda: pool().stats()["pool_available"] == 4, "all are there, so that no parent has to wait")
    inside, refusals = [], []

    def parent(number: int) -> None:
        from django.db import OperationalError, transaction

        with transaction.atomic():
            item.objects.create(name=str(number))
            inside.append(number)
            eventually(lambda: len(inside) == 4, "all hold a connection")
            try:
                gevent.spawn(view, item.objects.count).get()
            except OperationalError as refusal:
                refusals.append(str(refusal))
            eventually(lambda: len(refusals) == 4, "all were refused one more")

    gevent.joinall([request(parent, number) for number in range(4)], raise_error=True)
    for message in refusals:
        assert "no connection within" in message
        assert message.count("GET /test/") == 4
    assert at_rest()


def test_set_up_happens_once_per_physical_connection(site: Site) -> None:
    item = site.start(create=False)
    from django.db import connection
    from django.db.backends.signals import connection_created

    created = []

    def receiver(connection: object, **_: object) -> None:
        with connection.cursor() as cursor:  # type: ignore[attr-defined]
            cursor.execute("SELECT 1")
        created.append(connection)

    connection_created.connect(receiver)
    try:
        with connection.schema_editor() as editor:
            editor.create_model(item)
        connection.close()
        for _ in range(10):
            view(item.objects.count)
    finally:
        connection_created.disconnect(receiver)
    assert len(created) == site.sessions() == 1


def test_two_aliases_and_copies(site: Site) -> None:
    item = site.start()

    def work() -> None:
        from django.db import connection, connections, transaction

        item.objects.using("other").create(name="o")
        with transaction.atomic(), transaction.atomic(using="other"):
            assert item.objects.count() == item.objects.using("other").count() == 1
        twin = connection.copy()
        with twin.cursor() as cursor:
            cursor.execute("SELECT 1")
        twin.close()
        connections["other"].close()

    view(work)
    assert at_rest()


def test_is_usable_is_honest(site: Site) -> None:
    item = site.start()

    def work() -> None:
        from django.db import DatabaseError, connection, transaction

        connection.ensure_connection()
        assert connection.is_usable()
        with transaction.atomic():
            item.objects.create(name="u")
            assert connection.is_usable()
            with pytest.raises(DatabaseError):
                query("SELECT nonsense")
            assert connection.is_usable() is (site.dialect == "mysql")
            transaction.set_rollback(True)

    view(work)
    assert at_rest()


def test_a_cursor_of_a_closed_connection_refuses(site: Site) -> None:
    site.start()

    def work() -> None:
        from django.db import InterfaceError, connection

        cursor = connection.cursor()
        connection.close()
        with pytest.raises(InterfaceError):
            cursor.execute("SELECT 1")
        cursor = connection.cursor()
        cursor.close()
        with pytest.raises(InterfaceError):
            cursor.execute("SELECT 1")

    view(work)
    assert at_rest()


def test_a_greenlet_that_shared_the_connection_and_ended_takes_nothing_with_it(site: Site) -> None:
    item = site.start()

    def work() -> None:
        by_another(item.objects.create, name="hers")
        assert list(item.objects.values_list("name", flat=True)) == ["hers"]

    view(work)
    eventually(at_rest, "both connections are back")


def test_a_transaction_of_a_greenlet_that_ended_is_not_committed_without_a_word(site: Site) -> None:
    item = site.start()

    def work() -> None:
        from django.db import OperationalError, transaction

        with pytest.raises(OperationalError, match="nothing to commit"), transaction.atomic():
            by_another(item.objects.create, name="hers")
        assert item.objects.count() == 0

    view(work)
    eventually(at_rest, "both connections are back")


def test_the_isolation_level_is_known_without_a_connection(site: Site) -> None:
    site.start(create=False)
    from django.db import connection

    level = connection.isolation_level
    assert getattr(level, "name", level).lower().replace("_", " ") == "read committed"
    assert site.sessions() == 0


def test_a_cursor_is_closed_in_the_words_of_either_library(site: Site) -> None:
    site.start(create=False)
    from django.db import InterfaceError, ProgrammingError, connection

    with connection.cursor() as cursor:
        pass
    for error in (InterfaceError, ProgrammingError):
        with pytest.raises(error, match="closed"):
            cursor.execute("SELECT 1")


def test_after_the_last_result_there_is_no_other(mysql_site: Site) -> None:
    mysql_site.start()

    def work() -> list[object]:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            return [cursor.nextset(), *cursor.fetchall()]

    assert view(work) == [None, (1,)]
    assert at_rest()


def test_the_log_of_queries_has_what_was_sent_and_holds_nothing(site: Site) -> None:
    """A debug toolbar reads it for each statement."""
    item = site.start(max_size=2)
    fill(item, 2)

    def work() -> None:
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        with CaptureQueriesContext(connection) as found:
            item.objects.filter(name="1").count()
            query("SELECT %s", ["red"])
        first, second = (one["sql"] for one in found)
        assert first.startswith("SELECT COUNT(*)")
        assert second == "SELECT 'red'"
        assert held() is not site.transaction_lease

    for _ in range(2):
        view(work)
        eventually(at_rest, "all is back")
    assert pool().stats()["connections_num"] == 1, "none was replaced"


def test_what_is_no_statement_is_refused_by_the_library_and_no_loss(site: Site) -> None:
    site.start(max_size=1)

    def work() -> None:
        from django.db import DatabaseError, connection

        with connection.cursor() as cursor, pytest.raises((TypeError, AssertionError, AttributeError, DatabaseError)):
            cursor.execute(None)
        assert query("SELECT 1") == (1,)

    view(work)
    eventually(at_rest, "all is back")

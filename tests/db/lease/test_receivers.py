"""Receivers of `connection_created`: what they do to a connection is there for every request, and done once."""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest

from tests.db.lease.site import Site, at_rest, eventually, fill, pool, query, request, view
from tests.db.observe.watching import listening

Receiver = Callable[..., None]


@contextmanager
def receiving(*receivers: Receiver, sender: Any = None) -> Iterator[None]:
    from django.db.backends.signals import connection_created

    for receiver in receivers:
        connection_created.connect(receiver, sender=sender)
    try:
        yield
    finally:
        for receiver in receivers:
            connection_created.disconnect(receiver, sender=sender)


def alone(*statements: str) -> Any:
    """One request that runs these; what the last one says."""

    def work() -> Any:
        for sql in statements[:-1]:
            query(sql)
        return query(statements[-1])

    return view(work)


def wipe(site: Site) -> None:
    """A request that leaves something in its session."""
    alone("CREATE TEMPORARY TABLE left_behind (n int)" if site.dialect == "mysql" else "LISTEN left_behind")
    eventually(at_rest, "it was wiped")


def test_a_wrapper_of_a_receiver_is_called_for_every_request_with_its_own_connection(site: Site) -> None:
    site.start(create=False)
    seen: list[tuple[Any, str]] = []

    def note(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        seen.append((context["connection"], sql))
        return execute(sql, params, many, context)

    def install(connection: Any, **_: Any) -> None:
        connection.execute_wrappers.append(note)

    def work() -> Any:
        from django.db import connections

        return query("SELECT 1") and connections["default"]

    with receiving(install):
        greenlets = [request(work) for _ in range(6)]
        ours = [greenlet.get() for greenlet in greenlets]
        assert [sql for _, sql in seen].count("SELECT 1") == 6
        assert {id(connection) for connection, _ in seen} == {id(connection) for connection in ours}


def test_a_connection_that_is_kept_meets_a_receiver_once(site: Site) -> None:
    """A greenlet keeps Django's object from request to request, as one does that serves a kept connection of HTTP."""
    site.start(create=False)
    calls: list[str] = []

    def note(execute: Any, sql: str, *rest: Any) -> Any:
        calls.append(sql)
        return execute(sql, *rest)

    def install(connection: Any, **_: Any) -> None:
        connection.execute_wrappers.append(note)

    def many_requests() -> None:
        from django.db import connection

        for _ in range(4):
            query("SELECT 1")
            connection.close()

    with receiving(install):
        view(many_requests)
    assert calls == ["SELECT 1"] * 4


def test_each_connection_has_an_object_of_its_own(site: Site) -> None:
    site.start(create=False, max_size=1)

    class Counter:
        def __init__(self, connection: Any) -> None:
            self.number, self.connection = 0, connection

        def __call__(self, execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
            assert context["connection"] is self.connection
            self.number += 1
            return execute(sql, params, many, context)

    def install(connection: Any, **_: Any) -> None:
        connection.counter = Counter(connection)
        connection.execute_wrappers.append(connection.counter)

    def work(number: int) -> int:
        from django.db import connections

        for _ in range(number):
            query("SELECT 1")
            gevent.sleep(0)
        counted: int = connections["default"].counter.number  # type: ignore[attr-defined]
        return counted

    with receiving(install):
        greenlets = [request(work, number) for number in (1, 2, 3)]
        assert [greenlet.get() for greenlet in greenlets] == [1, 2, 3]


def test_methods_and_attributes_that_a_receiver_exchanges_work_in_the_requests_transaction(site: Site) -> None:
    item = site.start()
    opened: list[Any] = []

    def install(connection: Any, **_: Any) -> None:
        cursor = connection.cursor

        def counted(*args: Any, **more: Any) -> Any:
            opened.append(connection)
            return cursor(*args, **more)

        connection.cursor = counted
        connection.force_debug_cursor = True
        connection.ops.last_executed_query = lambda *_: "hidden"

    def work() -> list[str]:
        from django.db import connections, transaction

        ours: Any = connections["default"]
        opened.clear()
        with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012 - the block is what raises
            item.objects.create(name="never")
            assert ours.lease.conn is not None
            raise ZeroDivisionError
        assert opened
        assert set(opened) == {ours}
        assert not item.objects.exists()
        return [entry["sql"] for entry in ours.queries if not entry["sql"].startswith(("BEGIN", "ROLLBACK"))]

    with receiving(install):
        assert set(view(work)) == {"hidden"}
    assert site.sessions() == 1


def test_a_cursor_method_of_a_receiver_sees_the_first_statement_of_each_request(site: Site) -> None:
    """Django connects inside of `cursor()`. Here each request may be the first of its object."""
    item = site.start()
    fill(item, 2)
    opened: list[str] = []

    def install(connection: Any, **_: Any) -> None:
        for name in ("cursor", "chunked_cursor"):
            original = getattr(connection, name)
            if name not in vars(connection):
                setattr(connection, name, lambda *args, _of=original, _name=name: opened.append(_name) or _of(*args))

    def exchanged_before() -> int:
        from django.db import connection, connections

        ours: Any = connections["default"]
        original = ours.cursor
        ours.cursor = lambda: opened.append("before") or original()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return int(item.objects.count())

    with receiving(install):
        view(query, "SELECT 1")
        opened.clear()
        assert [view(query, "SELECT 1") for _ in range(3)] == [(1,)] * 3
        assert opened == ["cursor"] * 3
        opened.clear()
        assert len(view(lambda: list(item.objects.iterator()))) == 2
        assert opened[:1] == (["chunked_cursor"])
        opened.clear()
        assert view(exchanged_before) == 2
        assert opened[0] == "before", "what was there before is called once, and calls Django's"
    assert view(query, "SELECT 1") == (1,)
    eventually(at_rest, "all went back")


def test_what_a_receiver_exchanges_as_a_whole_is_there_for_every_request(site: Site) -> None:
    site.start(create=False)

    def install(connection: Any, **_: Any) -> None:
        connection.queries_log = deque(maxlen=77)

    def mark(connection: Any, **_: Any) -> None:
        connection.settings_dict["MARK"] = "there"

    def operations(connection: Any, **_: Any) -> None:
        if not hasattr(connection.ops, "mine"):
            connection.ops.__class__ = type("Mine", (type(connection.ops),), {"mine": True})

    def work() -> tuple[object, ...]:
        from django.db import connections

        query("SELECT 1")
        ours: Any = connections["default"]
        return ours.queries_log.maxlen, ours.settings_dict.get("MARK"), hasattr(ours.ops, "mine")

    from django.db import connections

    try:
        for receiver, at, right in ((install, 0, 77), (mark, 1, "there"), (operations, 2, True)):
            site.start(create=False)
            with receiving(receiver):
                assert [view(work)[at] for _ in range(3)] == [right] * 3
    finally:
        connections.settings["default"].pop("MARK", None)


def test_a_receiver_that_exchanges_the_class_of_the_connection_object_is_named(site: Site) -> None:
    site.start(create=False)

    def swap(connection: Any, **_: Any) -> None:
        connection.__class__ = type("Guarded", (type(connection),), {})

    with receiving(swap), pytest.raises(TypeError, match=r"swap, a receiver .* exchanges the class"):
        view(query, "SELECT 1")
    site.start(create=False)
    assert view(query, "SELECT 1") == (1,)


def test_copies_other_aliases_and_methods_of_objects_are_met_too(site: Site) -> None:
    site.start(create=False)
    seen: list[tuple[str, str]] = []

    class Guard:
        def receive(self, connection: Any, **_: Any) -> None:
            connection.execute_wrappers = [*connection.execute_wrappers, self.note]

        def note(self, execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
            seen.append((context["connection"].alias, sql))
            return execute(sql, params, many, context)

    def work() -> None:
        from django.db import connections

        copy = connections["default"].copy()
        for number, ours in enumerate((connections["default"], connections["other"], copy)):
            with ours.cursor() as cursor:
                cursor.execute(f"SELECT {number}")
            ours.close()

    guard = Guard()
    with receiving(guard.receive):
        for _ in range(2):
            view(work)
    assert seen == [("default", "SELECT 0"), ("other", "SELECT 1"), ("default", "SELECT 2")] * 2


def test_a_coroutine_that_receives_is_called(site: Site) -> None:
    site.start(create=False)
    seen: list[str] = []

    async def receive(connection: Any, **_: Any) -> None:
        connection.mark = "met"
        seen.append(connection.alias)

    def work() -> str:
        from django.db import connections

        query("SELECT 1")
        mark: str = connections["default"].mark  # type: ignore[attr-defined]
        return mark

    with receiving(receive):
        assert [view(work) for _ in range(2)] == ["met", "met"]
    # One for each of Django's connections, and one for each real one: a slow machine may need more than one of these.
    made = int(pool().stats()["connections_num"])
    assert seen == ["default"] * (2 + made), (seen, pool().stats())


def test_statements_of_receivers_run_once_for_each_real_connection(site: Site) -> None:
    site.start(create=False, max_size=1)
    alone("CREATE TABLE noted (n int)")

    def run_and_change(connection: Any, **_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO noted VALUES (%s)", [1])
            cursor.execute("SELECT 41 + 1")
            connection.answer = cursor.fetchone()[0]
            cursor.execute("SELECT 7 UNION ALL SELECT 8")
            connection.rest = [row[0] for row in cursor]

    def only_run(connection: Any, **_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO noted VALUES (%s)", ([n] for n in (2, 3)))

    def work() -> Any:
        from django.db import connections

        ours: Any = connections["default"]
        return query("SELECT COUNT(*) FROM noted"), ours.answer, ours.rest

    with receiving(run_and_change, only_run), listening() as log:
        assert [view(work) for _ in range(3)] == [((3,), 42, [7, 8])] * 3
        wipe(site)
        assert view(work) == ((6,), 42, [7, 8])
        assert not log.of("receiver_repeated")


SESSION = {
    "postgres": (
        "SET application_name = 'theirs'",
        "CREATE TEMPORARY TABLE theirs AS SELECT 5 AS n",
        "PREPARE ask AS SELECT n + 1 FROM theirs",
    ),
    "mysql": ("SET @mine = 'theirs'", "CREATE TEMPORARY TABLE theirs AS SELECT 5 AS n"),
}
ASK = {
    "postgres": ("SELECT current_setting('application_name'), n FROM theirs", ("theirs", 5)),
    "mysql": ("SELECT @mine, n FROM theirs", ("theirs", 5)),
}


def test_what_a_receiver_leaves_in_the_session_is_there_after_each_wipe(site: Site) -> None:
    site.start(create=False, max_size=1)
    calls: list[int] = []

    def prepare(connection: Any, **_: Any) -> None:
        calls.append(1)
        with connection.cursor() as cursor:
            for sql in SESSION[site.dialect]:
                cursor.execute(sql)

    sql, answer = ASK[site.dialect]
    with receiving(prepare):
        session = alone(site.session_sql)
        for _ in range(3):
            assert alone("SELECT 1", sql) == answer
            wipe(site)
        if site.dialect == "postgres":
            assert alone("EXECUTE ask") == (6,)
        assert alone(site.session_sql) == session
    assert calls == [1]


def test_handlers_on_the_client_librarys_object_are_called_once(postgres_site: Site) -> None:
    postgres_site.start(create=False, max_size=1)
    notices: list[str] = []

    def listen(connection: Any, **_: Any) -> None:
        raw = connection.connection
        if postgres_site.driver == "psycopg3":
            raw.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        else:
            raw.notices = notices

    with receiving(listen):
        for _ in range(3):
            wipe(postgres_site)
        notices.clear()
        alone("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
        eventually(at_rest, "it is back")
    assert len([notice for notice in notices if "hello" in notice]) == 1


def test_a_session_that_was_set_up_past_django_is_replaced_and_not_wiped(site: Site) -> None:
    site.start(create=False, max_size=1)

    def set_up(connection: Any, **_: Any) -> None:
        with connection.connection.cursor() as cursor:
            cursor.execute(SESSION[site.dialect][0])

    sql = "SELECT current_setting('application_name')" if site.dialect == "postgres" else "SELECT @mine"
    with receiving(set_up):
        first = alone(site.session_sql)
        assert alone(sql) == ("theirs",)
        lost = pool().stats()["connections_lost"]
        wipe(site)
        assert alone(sql) == ("theirs",)
        second = alone(site.session_sql)
        assert second != first
        assert alone("SELECT 1", site.session_sql) == second, "it is replaced after a wipe only"
        assert site.sessions() == 1
        assert pool().stats()["connections_lost"] == lost


def test_a_receiver_that_does_both_is_silent_when_it_meets_a_request(postgres_site: Site) -> None:
    postgres_site.start(create=False, max_size=1)

    def both(connection: Any, **_: Any) -> None:
        connection.name = connection.connection.info.dbname
        if postgres_site.driver == "psycopg3":
            connection.connection.add_notice_handler(print)
        else:
            connection.connection.notices = []
        connection.connection.cursor().execute("SELECT pg_advisory_lock(7)")

    def work() -> str:
        from django.db import connections

        query("SELECT 1")
        ours: Any = connections["default"]
        assert not ours.lease.pins
        assert ours.lease.conn is None
        name: str = ours.name
        return name

    with receiving(both):
        assert view(work) == postgres_site.database
        assert view(work) == postgres_site.database


def test_a_receiver_that_cannot_be_silent_runs_whole_and_the_log_says_so(site: Site) -> None:
    site.start(create=False, max_size=1)
    first = [True]

    def capricious(connection: Any, **_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            if not first:
                cursor.execute("SELECT 2")
                connection.answer = cursor.fetchone()[0]
            else:
                connection.answer = first.pop()

    def work() -> int:
        from django.db import connections

        query("SELECT 1")
        answer: int = connections["default"].answer  # type: ignore[attr-defined]
        return answer

    with receiving(capricious), listening() as log:
        assert [view(work) for _ in range(3)] == [2, 2, 2]
    (told,) = log.of("receiver_repeated")
    assert "capricious" in told["receiver"]


def test_a_receiver_that_asks_for_djangos_engine_by_its_class_is_called(site: Site) -> None:
    site.start(create=False)
    from importlib import import_module

    stock = import_module(f"django.db.backends.{'postgresql' if site.dialect == 'postgres' else 'mysql'}.base")
    seen: list[str] = []

    def install(connection: Any, **_: Any) -> None:
        seen.append(connection.alias)

    with receiving(install, sender=stock.DatabaseWrapper):
        alone("SELECT 1")
    assert seen == ["default"]


def test_a_receiver_that_comes_late_is_called_for_the_next_connection_object(site: Site) -> None:
    site.start(create=False)
    calls: list[str] = []
    alone("SELECT 1")

    def note(execute: Any, sql: str, *rest: Any) -> Any:
        calls.append(sql)
        return execute(sql, *rest)

    def install(connection: Any, **_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(SESSION[site.dialect][0])
        connection.execute_wrappers.append(note)

    sql = "SELECT current_setting('application_name')" if site.dialect == "postgres" else "SELECT @mine"
    with receiving(install):
        assert alone(sql) == ("theirs",)
        assert calls.count(sql) == 1
    alone("SELECT 2")
    assert "SELECT 2" not in calls


tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
needed: contextvars.ContextVar[str] = contextvars.ContextVar("needed")


def test_no_request_is_seen_when_a_session_is_set_up(site: Site) -> None:
    """The tenant of the request that came first must not settle in a session that all share."""
    site.start(create=False, max_size=1)
    seen: list[str] = []

    def set_tenant(connection: Any, **_: Any) -> None:
        seen.append(tenant.get())

    def work() -> None:
        tenant.set("first")
        query("SELECT 1")

    with receiving(set_tenant):
        view(work)
    assert seen == ["nobody"]


def test_a_receiver_that_changes_the_connection_sees_the_request(site: Site) -> None:
    site.start(create=False, max_size=1)

    def install(connection: Any, **_: Any) -> None:
        connection.tenant = tenant.get()

    def work(name: str) -> str:
        from django.db import connections

        tenant.set(name)
        query("SELECT 1")
        found: str = connections["default"].tenant  # type: ignore[attr-defined]
        return found

    with receiving(install):
        assert [view(work, name) for name in ("a", "b")] == ["a", "b"]


def test_a_receiver_that_needs_a_request_is_named(site: Site) -> None:
    site.start(create=False, max_size=1)

    def set_tenant(connection: Any, **_: Any) -> None:
        needed.get()

    with receiving(set_tenant), pytest.raises(LookupError) as caught:
        alone("SELECT 1")
    (note,) = caught.value.__notes__
    assert "set_tenant" in note
    assert "outside of any request" in note


def test_after_a_receiver_has_failed_nothing_runs_unguarded(site: Site) -> None:
    site.start(create=False)
    ready = [True]
    ran: list[str] = []

    def guard(execute: Any, sql: str, *rest: Any) -> Any:
        ran.append(sql)
        return execute(sql, *rest)

    def install(connection: Any, **_: Any) -> None:
        if not ready:
            raise ZeroDivisionError
        connection.execute_wrappers.append(guard)

    def work() -> None:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                query("SELECT 'unguarded'")
        ready.append(True)
        query("SELECT 'guarded'")

    with receiving(install):
        alone("SELECT 1")
        ready.clear()
        view(work)
    assert ran[-1] == "SELECT 'guarded'"
    assert not any("unguarded" in sql for sql in ran)


def test_a_connection_object_that_a_receiver_keeps_has_a_lease_like_any_other(site: Site) -> None:
    site.start(create=False, max_size=2)
    kept: list[Any] = []

    def keep(connection: Any, **_: Any) -> None:
        kept.append(connection)

    def work() -> None:
        from django.db import DatabaseError

        query("SELECT 1")
        with pytest.raises(DatabaseError, match="can only be used in that same thread"):
            kept[0].cursor()
        kept[0].inc_thread_sharing()
        with kept[0].cursor() as cursor:
            cursor.execute("SELECT 1")
        kept[0].close()

    with receiving(keep):
        view(work)
    assert site.sessions() == pool().stats()["pool_size"] <= 2

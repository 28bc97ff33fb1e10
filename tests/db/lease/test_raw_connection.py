"""Every door to the physical connection goes through the lease. Both leases, every driver, real servers."""

from __future__ import annotations

import contextlib
import re
from functools import partial
from typing import Any

import gevent
import pytest

from tests.db.lease.conftest import _site
from tests.db.lease.site import Site, at_rest, by_another, eventually, fill, held, pool, query, request, view


def raw() -> Any:
    """Django's `connection.connection`, connected."""
    from django.db import connection

    connection.ensure_connection()
    return connection.connection


def fail() -> None:
    """As an application does."""
    raise ValueError("wanted")


def session(site: Site) -> Any:
    """The server's number of the session that the calling request holds, or has now for a statement."""
    return query(site.session_sql)[0]


def replaced(site: Site, work: Any) -> bool:
    """Whether the connection that this request had is not lent again."""
    before = view(session, site)
    view(work)
    eventually(at_rest, "the connection is back, or closed")
    return bool(view(session, site) != before)


def test_a_commit_through_the_cursor_ends_no_transaction_of_another_request(site: Site) -> None:
    item = site.start(max_size=1)
    from djworker.db.lease.errors import LeaseClosed

    inside, ended = gevent.event.Event(), gevent.event.Event()

    def rolls_back() -> None:
        from django.db import transaction

        with transaction.atomic():
            item.objects.create(name="never")
            inside.set()
            ended.wait(5)
            raise ValueError("wanted")

    def commits() -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("UPDATE lease_item SET name = name")
            if not site.transaction_lease:
                connection.close()
            inside.wait(5)
            for end in (cursor.connection.commit, cursor.connection.rollback):
                if site.transaction_lease:
                    end()
                else:
                    with pytest.raises(LeaseClosed):
                        end()
        ended.set()

    others = [request(commits), request(rolls_back)]
    gevent.joinall(others)
    with pytest.raises(ValueError, match="wanted"):
        others[1].get()
    others[0].get()
    assert view(item.objects.count) == 0


# -- what is asked for nothing ---------------------------------------------------------------------------------------


def status(site: Site) -> str:
    """The transaction status as audit packages look at it, in psycopg's words."""
    from django.db import connection

    with connection.cursor() as cursor:
        found = cursor.connection.info.transaction_status
        assert found == connection.connection.info.transaction_status
        if site.driver == "psycopg2":
            assert found == cursor.connection.get_transaction_status()
    if site.driver == "psycopg3":
        return str(found.name)
    return ["IDLE", "ACTIVE", "INTRANS", "INERROR", "UNKNOWN"][found]


def test_the_transaction_status_is_that_of_the_asking_request(postgres_site: Site) -> None:
    item = postgres_site.start(max_size=1)
    seen = []

    def work() -> None:
        from django.db import DatabaseError, transaction

        seen.append(status(postgres_site))
        with transaction.atomic():
            seen.append(status(postgres_site))
            item.objects.count()
            seen.append(status(postgres_site))
            with pytest.raises(DatabaseError):
                query("SELECT nonsense")
            seen.append(status(postgres_site))
            neighbour = request(status, postgres_site)
            seen.append(neighbour.get())
            transaction.set_rollback(True)
        seen.append(status(postgres_site))

    view(work)
    assert seen == ["IDLE", "IDLE", "INTRANS", "INERROR", "IDLE", "IDLE"]
    assert at_rest()


def public(thing: Any) -> list[str]:
    """The names that a library gives to all."""
    return sorted(name for name in dir(thing) if not name.startswith("_"))


# Of our connections that wait in the hub, and of no other.
OURS = {
    *(
        "watch",
        "wait",
        "abandon",
        "abandoned",
        "params",
        "login",
        "wire",
        "handle",
        "backend",
        "tracks_session",
        "awaiting",
    ),
    *("become_green", "refuse", "fetch_in_thread", "rows_are_read", "reset_session", "cut_loose", "track_session"),
}


def fetches(kind: Any) -> bool:
    """Whether reading the attribute gives a method."""
    return callable(kind)


def test_a_harmless_name_is_answered_as_the_library_does_and_holds_nothing(leasing: Site) -> None:
    leasing.start(create=False)
    from django.db import connection

    from djworker.db.lease.raw_names import CONNECTIONS, INFOS, Treatment

    held_for = {Treatment.IDENTITY, Treatment.NUMBER, Treatment.LAST_RESULT, Treatment.INFO, Treatment.SELF}

    def work(door: Any, find: Any, answers: Any) -> None:
        for name, answer in answers.items():
            theirs = find(connection.lease.look())
            if answer in held_for or not hasattr(theirs, name):
                continue
            expected, found = getattr(theirs, name), getattr(door, name)
            assert callable(found) is callable(expected), name
            assert callable(found) or isinstance(found, type(expected)), name
            if not callable(found) and name != "autocommit_mode":
                assert found == expected, name
            assert not held(), name

    def both() -> None:
        door, driver = raw(), connection.leased_pool.driver.name
        work(door, lambda conn: conn, CONNECTIONS[driver].answers)
        if driver in INFOS:
            work(door.info, lambda conn: conn.info, INFOS[driver].answers)

    assert not replaced(leasing, both)


CALLS: dict[str, dict[str, tuple[Any, ...]]] = {
    "psycopg3": {"xid": (1, "a", "b"), "set_autocommit": (True,)},
    "psycopg2": {
        "get_dsn_parameters": (),
        "get_parameter_status": ("TimeZone",),
        "get_transaction_status": (),
        "isexecuting": (),
        "xid": (1, "a", "b"),
    },
    "mysqlclient": {
        **dict.fromkeys(("escape", "escape_string", "literal", "string_literal"), ("it's",)),
        **dict.fromkeys(("character_set_name", "get_character_set_info", "get_host_info", "get_proto_info"), ()),
        **dict.fromkeys(("get_server_info", "ping", "stat", "get_autocommit"), ()),
        "autocommit": (True,),
    },
    "pymysql": {
        **dict.fromkeys(("escape",), ("it's",)),
        **dict.fromkeys(("character_set_name", "get_host_info", "get_proto_info", "get_server_info", "ping"), ()),
        "get_autocommit": (),
        "autocommit": (True,),
    },
}


def test_a_harmless_method_gives_what_the_library_gives(leasing: Site) -> None:
    leasing.start(create=False)
    from django.db import connection

    def work() -> None:
        door = raw()
        for name, args in CALLS[leasing.driver].items():
            expected = getattr(connection.lease.look(), name)(*args)
            found = getattr(door, name)(*args)
            assert str(found) == str(expected) or name == "stat", name
            assert not held(), name

    assert not replaced(leasing, work)


def test_the_number_of_the_session_holds_it_without_replacing(leasing: Site) -> None:
    leasing.start(create=False)

    def work() -> None:
        door = raw()
        number = door.thread_id() if leasing.dialect == "mysql" else door.info.backend_pid
        assert held()
        gevent.joinall([request(query, "SELECT 1") for _ in range(3)], raise_error=True)
        assert session(leasing) == number

    view(work)
    eventually(at_rest, "the connection is back")
    assert pool().stats()["connections_expired"] == 0


def test_every_other_name_holds_the_connection_and_replaces_it(leasing: Site) -> None:
    leasing.start(create=False)
    from django.db import connection

    from djworker.db.lease.raw_names import CONNECTIONS

    def work() -> None:
        door, answers = raw(), CONNECTIONS[connection.leased_pool.driver.name].answers
        names = {*public(connection.lease.look())} - OURS - {*answers, "commit", "rollback", "close"}
        assert names
        for name in names:
            if name.startswith("lease_"):
                continue
            if connection.lease.conn is not None:
                connection.lease.conn.lease_record.spoilt = ""
            getattr(door, name)
            assert connection.lease.conn.lease_record.spoilt == f"raw connection.connection.{name}"

    assert replaced(leasing, work)


def test_a_name_that_the_library_has_not_holds_nothing(leasing: Site) -> None:
    leasing.start(create=False)

    def work() -> None:
        from django.db import connection

        assert not hasattr(raw(), "execute_everything")
        assert not held(), connection.lease.pins
        assert not hasattr(raw(), "no_such_thing")
        with connection.cursor() as cursor:
            assert not hasattr(cursor, "no_such_thing")
            assert not held(), connection.lease.pins
            assert getattr(cursor, "name", None) is None
        assert held() is not leasing.transaction_lease or not held()

    assert not replaced(leasing, work)


# -- assignments -----------------------------------------------------------------------------------------------------


def refusal(thing: Any, name: str, value: Any) -> Exception | None:
    """What setting the attribute raises."""
    try:
        setattr(thing, name, value)
    except Exception as error:  # noqa: BLE001 - of any library
        return error
    return None


def test_every_assignment_is_obeyed_or_refused(leasing: Site) -> None:
    leasing.start(create=False)
    from django.db import connection

    def work() -> None:
        door, lease = raw(), connection.lease
        lease.opened("test")
        for name in sorted({*public(lease.conn)} - OURS):
            if name.startswith("lease_"):
                continue
            value = getattr(lease.conn, name)
            lease.conn.lease_record.spoilt = ""
            theirs, ours = refusal(lease.conn, name, value), refusal(door, name, value)
            assert theirs is None or ours is not None or name == "autocommit", name
            assert lease.conn.lease_record.spoilt or ours or name == "autocommit", name
            assert ours is None or theirs is not None or "belongs to the lease" in str(ours), name
        door.flag_of_a_package = 1
        assert lease.conn.flag_of_a_package == door.flag_of_a_package == 1
        if leasing.driver != "mysqlclient":  # which forbids it
            del door.flag_of_a_package
            assert not hasattr(lease.conn, "flag_of_a_package")

    assert replaced(leasing, work)


def test_the_isolation_level_that_is_assigned_is_that_of_the_next_transaction(postgres_site: Site) -> None:
    postgres_site.start(create=False)

    def work() -> str:
        from django.db import transaction
        from django.db.backends.postgresql.psycopg_any import IsolationLevel

        door = raw()
        door.isolation_level = IsolationLevel.SERIALIZABLE
        assert door.isolation_level == IsolationLevel.SERIALIZABLE
        with transaction.atomic():
            return str(query("SHOW transaction_isolation")[0])

    def ordinary() -> str:
        from django.db import transaction

        with transaction.atomic():
            return str(query("SHOW transaction_isolation")[0])

    assert view(work) == "serializable"
    eventually(at_rest, "the connection is closed")
    assert view(ordinary) == "read committed"


def test_a_read_only_session_is_not_inherited(postgres_site: Site) -> None:
    item = postgres_site.start()

    def work() -> None:
        from django.db import DatabaseError, transaction

        if postgres_site.driver == "psycopg2":
            raw().set_session(readonly=True)
        else:
            raw().read_only = True
        with pytest.raises(DatabaseError, match="read-only"), transaction.atomic():
            item.objects.create(name="refused")

    def writes() -> None:
        from django.db import transaction

        with transaction.atomic():
            item.objects.create(name="written")

    view(work)
    view(writes)
    assert view(item.objects.count) == 1


def set_mode(site: Site, value: bool) -> None:  # noqa: FBT001
    """Behind Django's back."""
    door = raw()
    if site.dialect == "mysql":
        door.autocommit(value)
    else:
        door.autocommit = value
    assert (door.get_autocommit() if site.dialect == "mysql" else door.autocommit) == value


def test_setting_the_mode_to_what_it_is_holds_nothing(leasing: Site) -> None:
    leasing.start(create=False)

    def work() -> None:
        from django.db import transaction

        set_mode(leasing, True)
        with transaction.atomic():
            set_mode(leasing, False)
        assert not held()

    assert not replaced(leasing, work)


def test_a_block_of_the_librarys_on_a_lost_connection_is_no_open_one(postgres_site: Site) -> None:
    """A commit is refused for the loss, and a rollback is not."""
    item = postgres_site.start(max_size=1)

    def work() -> None:
        from django.db import DatabaseError, connection, transaction

        from djworker.db.lease.errors import ConnectionLost

        transaction.set_autocommit(False)
        with raw().cursor() as cursor:
            cursor.execute("SELECT 1")
        raw().rollback()
        postgres_site.server.terminate_backends(postgres_site.database)
        block = raw().transaction() if postgres_site.driver == "psycopg3" else raw()
        with contextlib.suppress(DatabaseError, connection.Database.Error), block:
            query("SELECT 1")
        with pytest.raises(ConnectionLost):
            transaction.commit()
        transaction.rollback()
        with pytest.raises(DatabaseError):
            item.objects.create(name="refused")

    view(work)
    eventually(at_rest, "all is back")
    assert view(item.objects.count) == 0


@pytest.mark.parametrize("commits", [False, True])
def test_a_mode_that_is_set_behind_django_is_the_librarys(site: Site, commits: bool) -> None:  # noqa: FBT001
    """As with Django's own engine: a transaction that code has to end, and Django's changes of the mode hold."""
    item = site.start(max_size=1)

    def work() -> None:
        from django.db import transaction

        set_mode(site, False)
        item.objects.create(name="in a transaction")
        getattr(raw(), "commit" if commits else "rollback")()
        with transaction.atomic():
            item.objects.create(name="atomic")
        item.objects.create(name="in autocommit again")
        set_mode(site, False)
        item.objects.create(name="never committed")

    view(work)
    names = {"atomic", "in autocommit again", *(["in a transaction"] if commits else [])}
    assert view(lambda: {found.name for found in item.objects.all()}) == names


@pytest.mark.parametrize("value", [False, True])
def test_the_mode_of_what_is_lost_or_closed_is_not_set(site: Site, value: bool) -> None:  # noqa: FBT001
    """To the value that it has, too: the libraries refuse it, as nothing can follow."""
    item = site.start(max_size=1)

    def lost() -> None:
        from django.db import DatabaseError, transaction

        from djworker.db.lease.errors import ConnectionLost

        transaction.set_autocommit(False)
        item.objects.create(name="never committed")
        site.server.terminate_backends(site.database)
        with pytest.raises(DatabaseError):
            query("SELECT 1")
        with pytest.raises(ConnectionLost):
            set_mode(site, value)

    def closed() -> None:
        from django.db import connection

        from djworker.db.lease.errors import LeaseClosed

        door = raw()
        connection.close()
        set_closed = (
            partial(door.autocommit, value) if site.dialect == "mysql" else partial(setattr, door, "autocommit", value)
        )
        with pytest.raises(LeaseClosed):
            set_closed()

    view(lost)
    view(closed)
    eventually(at_rest, "all is back")
    assert view(item.objects.count) == 0


# -- the library's object --------------------------------------------------------------------------------------------


def test_a_mode_that_is_set_within_a_block_ends_with_it(site: Site) -> None:
    """What was set is what Django wants there; what follows the block is committed, as ever."""
    item = site.start(max_size=1)

    def work() -> None:
        from django.db import transaction

        session(site)  # so that the connection is held before
        with contextlib.suppress(ValueError), transaction.atomic():
            if site.dialect == "postgres":
                raw().autocommit = False
            else:
                raw().autocommit(False)
            fail()
        item.objects.create(name="kept")

    view(work)
    eventually(at_rest, "the connection is back")
    assert view(item.objects.count) == 1


def test_converters_and_loaders_reach_no_other_request(site: Site) -> None:
    site.start(create=False, max_size=1)

    def registers() -> Any:
        door = raw()
        if site.driver == "psycopg3":
            from psycopg.types.numeric import FloatLoader

            door.adapters.register_loader("numeric", FloatLoader)
        elif site.driver == "psycopg2":
            from psycopg2 import extensions

            as_float = extensions.new_type((1700,), "FLOAT", lambda text, _: None if text is None else float(text))
            door.string_types[1700] = as_float
        else:
            from MySQLdb.constants import FIELD_TYPE

            converters = door.decoders if site.driver == "pymysql" else door.converter
            converters[FIELD_TYPE.NEWDECIMAL] = float
        return query("SELECT 1.5")[0]

    from decimal import Decimal

    assert type(view(registers)) is float
    eventually(at_rest, "the connection is closed")
    assert type(view(query, "SELECT 1.5")[0]) is Decimal


def test_notices_of_other_requests_are_not_shown(postgres_site: Site) -> None:
    postgres_site.start(create=False, max_size=1)
    if postgres_site.driver != "psycopg2":
        return

    def warn(text: str) -> list[str]:
        query(f"DO $$ BEGIN RAISE NOTICE '{text}'; END $$")
        return list(raw().notices)

    def quiet() -> list[str]:
        return list(raw().notices)

    assert len(view(warn, "mine")) == 1
    assert view(quiet) == []
    view(query, "DO $$ BEGIN RAISE NOTICE 'hers'; END $$")
    assert view(quiet) == []
    for _ in range(2):
        view(query, "SET LOCAL work_mem = '5MB'")  # a warning, and no pin
        assert view(quiet) == []
        view(query, "SET LOCAL work_mem = '5MB'")
        assert len(view(warn, "mine")) == 1


@pytest.mark.parametrize("leasing", ["psycopg2"], indirect=True)
def test_notices_are_shown_although_a_statement_before_them_was_refused(leasing: Site) -> None:
    """On a connection that is held all the time: what it received since it was taken is ours."""
    item = leasing.start(max_size=1)

    def work() -> None:
        from django.db import DatabaseError, transaction

        from djworker.db.lease.errors import ConnectionLost

        item.objects.create(name="mine")
        view(lambda: item.objects.create(name="hers"))
        query("LISTEN something")
        with pytest.raises(ConnectionLost), transaction.atomic():  # noqa: PT012 - the block is what is refused
            with pytest.raises(DatabaseError):
                query("SELECT lastval()")
            query("SELECT 1")
        query("DO $$ BEGIN RAISE NOTICE 'psst'; END $$")
        assert raw().notices == ["NOTICE:  psst\n"]

    view(work)


def client_state(conn: Any) -> dict[str, str]:
    """All that the library's object has, as far as it can be compared."""
    found = {}
    for name in dir(conn):
        if name.startswith("__") or name in VOLATILE:
            continue
        with contextlib.suppress(Exception):
            value = getattr(conn, name)
            if not callable(value):
                found[name] = state_of(value)
    return found


def state_of(value: Any) -> str:
    """A value, with what is in it where its own text does not tell."""
    if type(value).__name__ == "AdaptersMap":
        return repr({name: value_repr(getattr(value, name)) for name in value.__slots__ if hasattr(value, name)})
    return value_repr(value)


def value_repr(value: Any) -> str:
    """Its text, without addresses: contents of containers in any order."""
    if isinstance(value, dict):
        return repr(sorted((str(key), re.sub("0x[0-9a-f]+", "", repr(item))) for key, item in value.items()))
    return re.sub("0x[0-9a-f]+", "", repr(value))


# Differ from statement to statement, or from connection to connection, and say nothing that a request has left.
VOLATILE = {
    *(
        "watch",
        "_watch",
        "wire",
        "handle",
        "lease_record",
    ),
    *(
        "pgconn",
        "info",
        "lock",
        "_cached_info",
        "pgconn_ptr",
        "_prepared",
        "_result",
        "_affected_rows",
        "salt",
        "_rfile",
    ),
    *(
        "_sock",
        "_next_seq_id",
        "server_status",
        "server_thread_id",
        "messages",
        "backend",
        "_line",
        "_fd",
        "ctx",
        "status",
    ),
    *("__dict__", "_unread", "_thread", "awaiting", "fileno", "isexecuting"),
}

LEAVES = {
    "postgres": [
        "SET client_encoding TO 'LATIN1'",
        "LISTEN somewhere",
        "LISTEN somewhere; NOTIFY somewhere, 'for me'",
        "DO $$ BEGIN RAISE NOTICE 'for me'; END $$",
        "UNLISTEN somewhere; NOTIFY somewhere",
        "SET standard_conforming_strings TO off",
        "SET default_transaction_isolation TO 'serializable'",
        "SET session characteristics AS TRANSACTION READ ONLY",
        "SET DateStyle TO 'German'",
        "SELECT set_config('TimeZone', 'Asia/Tokyo', false)",
    ],
    "mysql": [
        "SET NAMES latin1",
        "SET autocommit = 0",
        "SET sql_mode = 'NO_BACKSLASH_ESCAPES'",
        "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET SESSION TRANSACTION READ ONLY",
        "SET SESSION max_allowed_packet = 2048",
        "USE information_schema",
        "SELECT 1 / 0",
    ],
}


def test_no_statement_leaves_anything_in_the_librarys_object(site: Site) -> None:
    site.start(create=False, max_size=1)
    from django.db import DatabaseError, connection

    def look() -> dict[str, str]:
        query("SELECT 1")
        return client_state(connection.lease.look())

    def leave(sql: str) -> None:
        with contextlib.suppress(DatabaseError):
            query(sql)

    fresh = view(look)
    for sql in LEAVES[site.dialect]:
        view(leave, sql)
        assert view(look) == fresh, sql


def test_nothing_done_to_the_librarys_object_is_seen_by_the_next_request(site: Site) -> None:
    site.start(create=False, max_size=1)
    from django.db import connection

    def look() -> dict[str, str]:
        query("SELECT 1")
        return client_state(connection.lease.look())

    changes: dict[str, list[Any]] = {
        "psycopg3": [
            lambda door: door.add_notice_handler(print),
            lambda door: door.add_notify_handler(print),
            lambda door: setattr(door, "prepare_threshold", None),
            lambda door: setattr(door, "row_factory", dict),
            lambda door: door.set_isolation_level(2),
        ],
        "psycopg2": [
            lambda door: door.set_session(isolation_level="SERIALIZABLE", deferrable=True),
            lambda door: door.set_client_encoding("LATIN1"),
            lambda door: door.notices.append("mine"),
            lambda door: setattr(door, "notices", []),
            lambda door: setattr(door, "cursor_factory", dict),
            lambda door: door.set_isolation_level(3),
        ],
        "mysqlclient": [
            lambda door: door.set_character_set("latin1"),
            lambda door: door.encoders.update({set: str}),
            lambda door: door.converter.clear(),
            lambda door: setattr(door, "cursorclass", dict),
            lambda door: door.select_db("information_schema"),
        ],
        "pymysql": [
            lambda door: door.set_character_set("latin1"),
            lambda door: door.encoders.update({set: str}),
            lambda door: door.decoders.clear(),
            lambda door: setattr(door, "cursorclass", dict),
            lambda door: setattr(door, "max_allowed_packet", 1),
            lambda door: door.select_db("information_schema"),
        ],
    }
    fresh = view(look)
    for change in changes[site.driver]:
        view(lambda: change(raw()))  # noqa: B023 - called at once
        assert view(look) == fresh


# -- kept too long ---------------------------------------------------------------------------------------------------


def test_what_is_kept_beyond_the_request_reaches_no_other(site: Site) -> None:
    item = site.start(max_size=1)
    from django.db import InterfaceError

    from djworker.db.lease.errors import LeaseClosed

    kept: dict[str, Any] = {}

    def work() -> None:
        from django.db import connection

        door = raw()
        kept["door"] = door
        kept["commit"], kept["look"] = door.commit, door.get_host_info if site.dialect == "mysql" else door.xid
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            kept["cursor"], kept["cursor's"] = cursor.cursor, cursor.connection
        kept["raw cursor"] = door.cursor()

    view(work)
    with pytest.raises(LeaseClosed):
        kept["door"].cursor()
    with pytest.raises(LeaseClosed):
        kept["commit"]()
    with pytest.raises(LeaseClosed):
        kept["cursor's"].rollback()
    with pytest.raises(InterfaceError):
        kept["cursor"].execute("SELECT 1")
    with pytest.raises(LeaseClosed):
        _ = kept["door"].encoding if site.driver != "psycopg3" else kept["door"].isolation_level
    with pytest.raises(Exception, match=r"(?i)close|lost|out of sync|\(0, ''\)|2006"):
        kept["raw cursor"].execute("INSERT INTO lease_item (name) VALUES ('too late')")
    assert view(item.objects.count) == 0
    eventually(at_rest, "the connection is closed")
    with pytest.raises(Exception, match=r"(?i)close|lost|out of sync|\(0, ''\)|2006"):
        kept["raw cursor"].execute("INSERT INTO lease_item (name) VALUES ('too late')")
    assert view(item.objects.count) == 0


def test_a_greenlet_that_ends_with_an_opened_connection_leaves_it_to_nobody(leasing: Site) -> None:
    leasing.start(create=False, max_size=1)

    def work() -> None:
        by_another(lambda: raw().cursor())

    assert replaced(leasing, work)


# -- blocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
def test_a_connection_can_be_a_context_manager(leasing: Site, fails: bool) -> None:  # noqa: FBT001
    item = leasing.start()

    def work() -> None:
        from django.db import InterfaceError, connection

        try:
            with raw() as door, door.cursor() as cursor:
                cursor.execute("INSERT INTO lease_item (name) VALUES ('one')")
                if leasing.driver == "psycopg2":
                    assert door.get_transaction_status() == 2
                if fails:
                    fail()
        except ValueError:
            assert fails
        if leasing.driver == "psycopg2":
            assert query("SELECT 1") == (1,)
        else:
            with pytest.raises(InterfaceError):
                query("SELECT 1")
            connection.close()

    view(work)
    assert view(item.objects.count) == (0 if fails and leasing.driver == "psycopg2" else 1)


def test_a_transaction_of_the_librarys_includes_djangos_statements(psycopg3_site: Site) -> None:
    item = psycopg3_site.start()

    def work() -> None:
        with pytest.raises(ValueError, match="wanted"), raw().transaction():  # noqa: PT012 - the block is what raises
            item.objects.create(name="one")
            fail()
        with raw().transaction():
            item.objects.create(name="two")
        with raw().pipeline():
            raw().execute("INSERT INTO lease_item (name) VALUES ('three')")

    view(work)
    assert view(lambda: sorted(found.name for found in item.objects.all())) == ["three", "two"]


# -- taken for the real thing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mysql_site", ["pymysql"], indirect=True)
def test_pymysqls_note_of_its_mode_is_what_django_wants(mysql_site: Site) -> None:
    """Although the server is told with the first statement only."""
    mysql_site.start(create=False, max_size=1)

    def work() -> None:
        from django.db import transaction

        door = raw()
        assert door.autocommit_mode is True
        with transaction.atomic():
            assert door.autocommit_mode is False

    view(work)


@pytest.mark.parametrize("where", ["connection", "info"])
def test_what_lives_is_told_of_a_connection_that_was_lost_behind_the_lease(site: Site, where: str) -> None:
    """The library has seen the loss, and no error has come to the lease.

    The answers are those of the library's own object. MySQLdb's `open` stays True, and the lease's says what it knows.
    """
    site.start(create=False, max_size=1)

    def told_by(conn: Any) -> dict[str, object]:
        asked = conn if where == "connection" else getattr(conn, "info", None)
        names = ("closed", "broken", "open", "transaction_status", "status")
        return {name: int(bool(getattr(asked, name))) for name in names if hasattr(asked.__class__, name)}

    def work() -> None:
        from django.db import connection

        door = raw()
        behind = door.cursor()
        behind.execute("SELECT 1")
        behind.fetchall()
        real = connection.lease.conn  # type: ignore[attr-defined]
        site.server.terminate_backends(site.database)
        try:
            behind.execute("SELECT 1")
        except door.OperationalError:
            told = told_by(real)
            assert told_by(door) == {name: 0 if name == "open" else value for name, value in told.items()}
        else:
            pytest.fail("the loss was not noticed")

    view(work)


@pytest.mark.parametrize("first", ["assignment", "cursor", "block", "mode"])
def test_a_connection_that_was_lost_behind_the_lease_is_told_to_be_lost(site: Site, first: str) -> None:
    """Only the library has seen it. What it says of a later assignment is of no use: "transaction() context in progress"."""
    site.start(create=False, max_size=1)

    def work() -> None:
        from django.db import DatabaseError, transaction

        from djworker.db.lease.errors import ConnectionLost

        def block() -> None:
            with transaction.atomic():
                query("SELECT 1")

        door = raw()
        behind = door.cursor()
        behind.execute("SELECT 1")
        behind.fetchall()
        site.server.terminate_backends(site.database)
        noticed = False
        try:
            with door.transaction() if site.driver == "psycopg3" else contextlib.nullcontext():
                behind.execute("SELECT 1")
        except door.OperationalError:
            noticed = True
        assert noticed
        changes = {
            "assignment": lambda: setattr(door, "anything", 1),
            "cursor": lambda: door.cursor().close(),
            "statement": lambda: query("SELECT 1"),
            "block": block,
            "mode": lambda: set_mode(site, False),
        }
        for change in (changes.pop(first), *changes.values()):
            with pytest.raises((ConnectionLost, DatabaseError), match="was lost with session state on it"):
                change()

    view(work)
    assert view(query, "SELECT 1") == (1,)


def test_psycopg_takes_it_for_its_own(psycopg3_site: Site) -> None:
    psycopg3_site.start(create=False)

    def work() -> None:
        import psycopg
        from django.db import connection
        from psycopg import sql
        from psycopg.types import TypeInfo
        from psycopg.types.enum import EnumInfo

        door = raw()
        assert isinstance(door, psycopg.Connection)
        assert isinstance(door.info, psycopg.ConnectionInfo)
        assert sql.SQL("{} {}").format(sql.Identifier("a"), sql.Literal("b")).as_string(door) == "\"a\" 'b'"
        with connection.cursor() as cursor:
            assert sql.Identifier("a").as_string(cursor.cursor) == '"a"'
        found = TypeInfo.fetch(door, "text")
        assert found is not None
        found.register(door)
        assert TypeInfo.fetch(door, "hstore") is None
        assert EnumInfo.fetch(door, "no_such_enum") is None
        assert psycopg.ClientCursor(door).mogrify("%s", ["it's"]) == "'it''s'"
        with psycopg.Cursor(door) as theirs:
            assert theirs.execute("SELECT 1").fetchone() == (1,)

    assert replaced(psycopg3_site, work)


def test_it_is_the_same_object_for_one_lease(leasing: Site) -> None:
    leasing.start(create=False)

    def work() -> None:
        from django.db import connection

        door = raw()
        with connection.cursor() as cursor:
            assert cursor.connection is cursor.cursor.connection is door
            cursor.execute("SELECT 1")
            assert cursor.connection is door is connection.connection
            if leasing.dialect == "mysql":
                assert cursor.cursor.cursor.connection is door
        assert isinstance(door, connection.leased_pool.driver.connection_type)
        assert repr(door).startswith("<LeasedConnection")
        connection.close()
        connection.ensure_connection()
        assert connection.connection is not door

    view(work)
    assert at_rest()


# -- cursors ---------------------------------------------------------------------------------------------------------


def test_no_attribute_of_a_cursor_is_the_librarys_connection(leasing: Site) -> None:
    leasing.start(create=False)
    from django.db import connection

    def work() -> None:
        kind = connection.leased_pool.driver.connection_type
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            leased = cursor.cursor
            names = {*public(leased._raw), *public(leased)} | {"_conn"}
            for name in sorted(names):
                try:
                    value = getattr(leased, name)
                except Exception:  # noqa: BLE001 - not there
                    continue
                assert not issubclass(type(value), kind), name
                owner = getattr(value, "__self__", None)
                if owner is not None and owner is not leased and held():
                    continue  # of the real cursor, on the connection that is held now
                assert owner is None or owner is leased or getattr(owner, "connection", None) is None or held(), name

    view(work)
    eventually(at_rest, "the connection is back, or closed")


def test_rows_can_be_rewound_and_the_rest_read_again(leasing: Site) -> None:
    item = leasing.start()
    fill(item, 5)

    def work() -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("SELECT name FROM lease_item ORDER BY id")
            assert cursor.fetchone() == ("0",)
            cursor.scroll(0, mode="absolute")
            assert [row[0] for row in cursor.fetchmany(2)] == ["0", "1"]
            cursor.scroll(1)
            assert cursor.fetchone() == ("3",)
            cursor.scroll(-2)
            assert [row[0] for row in cursor.fetchall()] == ["2", "3", "4"]
            with pytest.raises((IndexError, *connection_errors())):
                cursor.scroll(9, mode="absolute")
            with pytest.raises(connection_errors()):
                cursor.scroll(0, mode="sideways")

    view(work)
    assert at_rest()


def connection_errors() -> tuple[type[Exception], ...]:
    """What a library raises, wrapped by Django or not."""
    from django.db import connection

    return (connection.leased_pool.driver.error, ValueError)


def test_an_adapter_of_a_cursor_stays_with_the_cursor(psycopg3_site: Site) -> None:
    psycopg3_site.start(create=False)

    def work() -> None:
        from decimal import Decimal

        from django.db import connection
        from psycopg.types.numeric import FloatLoader

        with connection.cursor() as cursor:
            cursor.adapters.register_loader("numeric", FloatLoader)
            cursor.execute("SELECT 1.5")
            assert type(cursor.fetchone()[0]) is float
            cursor.execute("SELECT 2.5")
            assert type(cursor.fetchone()[0]) is float
        assert type(query("SELECT 1.5")[0]) is Decimal

    view(work)


def test_an_error_does_not_lead_to_the_connection(postgres_site: Site) -> None:
    postgres_site.start(create=False)

    def work() -> None:
        from django.db import DatabaseError

        with pytest.raises(DatabaseError) as caught:
            query("SELECT nonsense")
        theirs: Any = caught.value.__cause__
        assert getattr(theirs, "cursor", None) is None
        assert getattr(theirs, "pgconn", None) is None
        assert theirs.diag.sqlstate == "42703"
        assert "nonsense" in theirs.diag.message_primary

    view(work)
    assert at_rest()


def test_parameters_are_quoted_for_our_own_session(postgres_site: Site) -> None:
    """`mogrify` before anything was executed: on a session with our settings, whatever the last one's are now."""
    postgres_site.start(create=False, max_size=1)

    def work() -> None:
        from django.db import connection

        query("SET standard_conforming_strings = off")
        view(query, "SELECT 1")
        with connection.cursor() as cursor:
            text = cursor.mogrify("SELECT %s", ["back\\slash"])
            text = text.decode() if isinstance(text, bytes) else text
            cursor.execute(text)
            assert cursor.fetchone() == ("back\\slash",)

    view(work)


@pytest.fixture
def psycopg2_site(request: pytest.FixtureRequest) -> Site:
    """psycopg2 with the transaction lease."""
    return _site(request, "psycopg2", "transaction")


def test_functions_in_c_that_read_take_what_django_gives(psycopg2_site: Site) -> None:
    psycopg2_site.start(max_size=1)
    from psycopg2 import extensions, sql

    def work() -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            for given in (raw(), cursor.cursor):
                assert extensions.quote_ident('a"b', given) == '"a""b"'
                assert extensions.encrypt_password("secret", "me", given).startswith("SCRAM-SHA-256")
                text = sql.SQL("{} = {}").format(sql.Identifier("a", "b"), sql.Literal("it's"))
                assert text.as_string(given) == "\"a\".\"b\" = 'it''s'"
        assert not held()

    assert not replaced(psycopg2_site, work)


def test_types_in_c_that_want_the_librarys_connection_name_the_way_out(psycopg2_site: Site) -> None:
    psycopg2_site.start(max_size=1)
    from psycopg2 import extensions, extras

    class Own(extensions.cursor):
        pass

    def work() -> None:
        for kind in (extensions.cursor, extensions.lobject, extras.NamedTupleCursor, extras.ReplicationCursor, Own):
            with pytest.raises(TypeError, match=r"LeasedConnection: use its cursor\(cursor_factory=X\)$"):
                kind(raw())
        with raw().cursor(cursor_factory=Own) as cursor:
            assert type(cursor) is Own
            cursor.execute("SELECT 1")

    assert replaced(psycopg2_site, work)


def test_types_that_are_registered_for_one_connection_reach_no_other(psycopg2_site: Site) -> None:
    psycopg2_site.start(max_size=1)
    view(query, "CREATE TYPE pair AS (a int, b text)")
    view(query, "CREATE EXTENSION IF NOT EXISTS hstore")
    from psycopg2 import extras

    samples = {
        "SELECT (1, 'x')::pair": lambda given: extras.register_composite("pair", given),
        "SELECT 'a=>1'::hstore": extras.register_hstore,
        "SELECT '[1]'::jsonb": lambda given: extras.register_default_jsonb(given, loads=list),
    }

    def by_connection(sql: str, register: Any) -> Any:
        register(raw())
        return query(sql)[0]

    def by_cursor(sql: str, register: Any) -> Any:
        from django.db import connection

        with connection.cursor() as cursor:
            register(cursor.cursor)
            cursor.execute(sql)
            return cursor.fetchone()[0]

    for sql, register in samples.items():
        plain = type(view(query, sql)[0])
        for way in (by_connection, by_cursor):
            assert type(view(way, sql, register)) is not plain, (sql, way)
            eventually(at_rest, "replaced")
            assert type(view(query, sql)[0]) is plain, (sql, way)


def test_no_part_of_a_copy_leads_to_the_librarys_connection(psycopg3_site: Site) -> None:
    psycopg3_site.start(max_size=1)

    def work() -> None:
        from django.db import connection
        from psycopg import Copy

        with connection.cursor() as cursor, cursor.copy("COPY lease_item (name) FROM STDIN") as copy:
            assert isinstance(copy, Copy)
            for part in (copy, copy.writer, copy.formatter.transformer):
                assert part.connection is connection.connection
            assert copy.writer.cursor is cursor.cursor
            copy.writer.write(b"by the writer\n")
            copy.write("by the copy\n")

    view(work)
    assert view(query, "SELECT string_agg(name, ', ' ORDER BY name) FROM lease_item") == ("by the copy, by the writer",)


def test_a_copy_that_is_over_writes_nothing_into_the_next_one(psycopg3_site: Site) -> None:
    """The connection is another request's by then, which may be in the middle of a COPY of its own."""
    psycopg3_site.start(max_size=1)
    kept: list[Any] = []
    sql = "COPY lease_item (name) FROM STDIN"

    def first() -> None:
        from django.db import connection

        with connection.cursor() as cursor, cursor.copy(sql) as copy:
            kept.extend([copy.write, copy.writer.write, copy.write_row, copy.finish, copy.writer.finish])

    def second() -> None:
        from django.db import connection

        from djworker.db.lease.errors import CursorClosed

        with connection.cursor() as cursor, cursor.copy(sql) as copy:
            copy.write_row(("mine",))
            for method, value in zip(kept, (b"hers\n", b"hers\n", ("hers",), None, None), strict=True):
                with pytest.raises(CursorClosed):
                    method(value)

    view(first)
    view(second)
    assert view(query, "SELECT string_agg(name, ', ') FROM lease_item") == ("mine",)


def test_a_copy_that_is_over_leads_to_no_connection(psycopg3_site: Site) -> None:
    """A commit through it would end the transaction of the request that has the connection then."""
    item = psycopg3_site.start(max_size=1)
    kept: list[Any] = []

    def copies() -> None:
        from django.db import connection

        with connection.cursor() as cursor, cursor.copy("COPY lease_item (name) FROM STDIN") as copy:
            copy.set_types(["text"])
            copy.write_row(("copied",))
            kept.append(copy)
            assert copy.connection is connection.connection
        with connection.cursor() as cursor, cursor.copy("COPY (SELECT name FROM lease_item) TO STDOUT") as copy:
            assert [bytes(line) for line in copy] == [b"copied\n"]
            kept.append(copy)

    def rolls_back() -> None:
        from django.db import transaction

        from djworker.db.lease.errors import LeaseClosed

        with transaction.atomic():
            item.objects.create(name="never")
            for copy in kept:
                with pytest.raises(LeaseClosed):
                    copy.connection.commit()
                with pytest.raises(LeaseClosed):
                    copy.cursor.connection.commit()
            transaction.set_rollback(True)

    view(copies)
    view(rolls_back)
    assert view(item.objects.count) == 1


@pytest.mark.parametrize("inside", [False, True], ids=["autocommit", "atomic"])
def test_questions_about_one_statement_do_not_count_as_others(mysql_site: Site, inside: bool) -> None:  # noqa: FBT001 - pytest's
    """MySQL's libraries know the last statement's numbers by themselves, and tell them as often as they are asked."""
    item = mysql_site.start(max_size=1)
    from django.db import transaction

    from djworker.db.lease.errors import ReadBackLost

    names = ["insert_id", "affected_rows", "insert_id", "affected_rows"]
    more = ["warning_count", "info", "field_count", "errno", "sqlstate"] if mysql_site.driver == "mysqlclient" else []

    def work() -> list[object]:
        with transaction.atomic() if inside else contextlib.nullcontext():
            query("INSERT INTO lease_item (name) VALUES ('a'), ('b')")
            told = [getattr(raw(), name)() for name in names]
            assert all(getattr(raw(), name)() is not None for name in more)
            return [*told, *query("SELECT LAST_INSERT_ID()")]

    told = view(work)
    first = min(view(lambda: list(item.objects.values_list("pk", flat=True))))
    assert told == [first, 2, first, 2, first]
    with pytest.raises(ReadBackLost):
        view(lambda: raw().affected_rows())
    eventually(at_rest, "all went back")


def test_no_method_of_a_cursor_gives_the_librarys_cursor_out(site: Site) -> None:
    """What `results()`, `set_result()` and `iter()` give is the cursor itself in some libraries: a way past the lease."""
    site.start(create=False, max_size=1)
    from django.db import connection

    from djworker.db.lease.cursor import LeasedCursor

    setting = "SET work_mem = '9MB'" if site.dialect == "postgres" else "SET @left_behind = 9"
    shown = "SHOW work_mem" if site.dialect == "postgres" else "SELECT @left_behind"

    def given() -> Any:
        with connection.cursor() as cursor:
            ours: Any = getattr(cursor.cursor, "cursor", cursor.cursor)
            cursor.execute("SELECT 1")
            found: list[Any] = [iter(ours)]
            if site.driver == "psycopg3":
                cursor.execute("SELECT 1; SELECT 2")
                numbers = [each.fetchone() for each in ours.results()]
                assert numbers == [(1,), (2,)]
                assert ours.set_result(0).fetchone() == (1,)
                found += [*ours.results(), ours.set_result(0)]
            if site.dialect == "postgres":
                cursor.execute("SET application_name = 'mine'")
                with contextlib.suppress(connection.Database.Error):
                    found.append(iter(ours))
            for each in found:
                assert isinstance(each, LeasedCursor) or not hasattr(each, "execute"), each
                if isinstance(each, LeasedCursor):
                    each.execute(setting)
            return query(shown)

    before = view(query, shown)
    seen = view(given)
    assert seen == (("9MB",) if site.driver == "psycopg3" else before)
    assert view(query, shown) == before

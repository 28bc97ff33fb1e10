"""What stays of a transaction, a text of several statements or `executemany()` that did not run to its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from tests.db.lease.site import Site, at_rest, eventually, fill, held, held_by_another, pool, query, view

#: CLIENT.MULTI_STATEMENTS of both libraries, which are not to be imported before one is chosen.
MULTI_STATEMENTS = 1 << 16
SET = "SET search_path TO information_schema"
WHERE = "SELECT current_schema()"
HERE, THERE = ("public",), ("information_schema",)


def many(sql: str, rows: Any) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.executemany(sql, rows)


ENDS = {
    "failed": ["SELECT 1/0"],
    "rolled back by hand": ["ROLLBACK"],
    "aborted by hand": ["/* x */ ABORT", "SELECT 1"],
    "rolled back, and begun again": ["ROLLBACK AND CHAIN"],
    "failed, and committed by hand": ["SELECT 1/0", "COMMIT"],
}


@pytest.mark.parametrize("end", list(ENDS))
def test_a_setting_does_not_outlive_a_transaction_that_was_not_committed(postgres_site: Site, end: str) -> None:
    """PostgreSQL answers the COMMIT of a failed transaction with a ROLLBACK; Django sends one where the error was swallowed."""
    postgres_site.start(max_size=2)

    def work() -> None:
        from django.db import DatabaseError, transaction

        with transaction.atomic():
            query(SET)
            for statement in ENDS[end]:
                with suppress(DatabaseError):
                    query(statement)
        assert query(WHERE) == HERE
        if not held():
            with held_by_another():
                assert query(WHERE) == HERE

    view(work)
    eventually(at_rest, "all is back")
    view(query, SET)

    def tenant() -> None:
        query(SET)
        assert query(WHERE) == THERE

    view(tenant)  # who wants the setting does not find a connection that says to have it, and has not
    assert [view(query, WHERE) for _ in range(3)] == [HERE] * 3


HALVES = {
    "a text that commits in its middle": "SET work_mem = '5MB'; COMMIT; SELECT 1/0",
    "a block that commits in its middle": (
        "DO $$ BEGIN PERFORM set_config('work_mem', '5MB', false); COMMIT; PERFORM 1/0; END $$"
    ),
}


@pytest.mark.parametrize("what", list(HALVES))
def test_the_first_half_of_a_text_that_failed_pins(postgres_site: Site, what: str) -> None:
    postgres_site.start(max_size=2)

    def work() -> None:
        from django.db import DatabaseError

        with pytest.raises(DatabaseError):
            query(HALVES[what])
        with held_by_another():
            assert query("SHOW work_mem") == ("5MB",)

    for _ in range(2):  # the text is not known, and known
        view(work)
        eventually(at_rest, "wiped")
        assert [view(query, "SHOW work_mem") for _ in range(3)] == [("4MB",)] * 3


def test_the_first_rounds_of_executemany_that_failed_pin(postgres_site: Site) -> None:
    postgres_site.start(max_size=1)

    def rows() -> Iterator[Any]:
        yield ["app.tenant", "red"]
        raise KeyError

    def work(parameters: Any, error: type[Exception]) -> None:
        with pytest.raises(error):
            many("SELECT set_config(%s, %s, false)", parameters)

    from django.db import DatabaseError

    for parameters, error in (([["app.tenant", "red"], ["nonsense", "x"]], DatabaseError), (rows(), KeyError)):
        view(work, parameters, error)
        eventually(at_rest, "wiped")
        assert view(query, "SELECT coalesce(current_setting('app.tenant', true), '')") == ("",)


def test_a_schema_for_temporary_tables_in_a_parameter_pins(postgres_site: Site) -> None:
    postgres_site.start(max_size=1)

    def work() -> None:
        query("SELECT set_config('search_path', %s, false)", ["pg_temp, public"])
        query("CREATE TABLE lease_item AS SELECT 'mine' AS name")
        assert query("SELECT name FROM lease_item") == ("mine",)

    view(work)
    eventually(at_rest, "wiped")
    assert view(query, "SELECT count(*) FROM lease_item") == (0,)


@pytest.mark.parametrize("statement", ["SET seed TO 0.5", "SELECT set_config('seed', '0.5', false)", "by parameter"])
def test_random_numbers_that_were_seeded_go_on(postgres_site: Site, statement: str) -> None:
    postgres_site.start(max_size=2)

    def work() -> tuple[Any, Any]:
        if statement == "by parameter":
            query("SELECT set_config(%s, %s, false)", ["seed", "0.5"])
        else:
            query(statement)
        first = query("SELECT random()")
        with held_by_another():
            return first, query("SELECT random()")

    first, second = view(work)
    assert first != second
    eventually(at_rest, "replaced")
    assert pool().stats()["pool_size"] == 1, "what nothing undoes costs the connection"


def test_a_setting_with_empty_parameters_is_made_again_as_it_was(postgres_site: Site) -> None:
    postgres_site.start(max_size=2)

    def work() -> None:
        query("SET app.share = '5%%'", ())
        with held_by_another():
            assert query("SHOW app.share") == ("5%",)

    view(work)


def test_a_strangers_role_does_not_stand_in_the_way_of_our_settings(postgres_site: Site) -> None:
    """Neither may its role undo what its owner set before it, nor make what we want to have."""
    postgres_site.start(max_size=1)
    role = f"poor_{postgres_site.database}"
    postgres_site.server.execute(f"CREATE ROLE {role}")
    postgres_site.server.execute(f"GRANT {role} TO app")
    postgres_site.server.execute("GRANT SET ON PARAMETER log_statement TO app")

    def rich() -> None:
        query("SET log_statement = 'none'")
        query(f"SET ROLE {role}")
        view(ours)
        assert query("SELECT current_user, current_setting('log_statement')") == (role, "none")

    def ours() -> None:
        query("SET log_statement = 'ddl'")
        view(query, f"SET ROLE {role}")
        assert query("SELECT current_user, current_setting('log_statement')") == ("app", "ddl")

    try:
        view(rich)
    finally:
        postgres_site.server.execute("REVOKE SET ON PARAMETER log_statement FROM app")


SEQUENCE = {"postgres": "SELECT lastval()", "mysql": "SELECT LASTVAL(numbers)"}
TAKES = {"postgres": "SELECT nextval('numbers')", "mysql": "SELECT NEXTVAL(numbers)"}


def test_a_write_that_took_no_number_does_not_tell_a_strangers(site: Site) -> None:
    """No answer says whether a statement took a number of a sequence."""
    site.start(max_size=1)
    query("CREATE SEQUENCE numbers")
    query("CREATE TABLE plain (n int)")
    from django.db import connection

    connection.close()
    view(query, TAKES[site.dialect])

    def work() -> None:
        from django.db import DatabaseError, transaction

        with suppress(DatabaseError), transaction.atomic():
            query("INSERT INTO plain VALUES (1)")
            assert query(SEQUENCE[site.dialect]) == (None,)

    def ours() -> None:
        number = query(TAKES[site.dialect])
        assert query(SEQUENCE[site.dialect]) == number

    for _ in range(2):
        view(work)
        eventually(at_rest, "back")
        view(ours)
        eventually(at_rest, "back")


def test_a_number_that_we_make_ourselves_can_be_read_back(mysql_site: Site) -> None:
    mysql_site.start(max_size=2)
    query("CREATE TABLE counters (n int)")
    query("INSERT INTO counters VALUES (40)")
    from django.db import connection

    connection.close()

    def work() -> None:
        query("UPDATE counters SET n = LAST_INSERT_ID(n + 1)")
        assert query("SELECT LAST_INSERT_ID()") == (41,)

    view(work)


STRANGERS = [
    "SELECT LAST_INSERT_ID/* x */()",
    "SELECT @@local.identity",
    "SELECT @@session . last_insert_id",
    "SHOW VARIABLES LIKE 'identity'",
    "SELECT variable_value FROM information_schema.session_variables WHERE variable_name = 'LAST_INSERT_ID'",
]


@pytest.mark.parametrize("statement", STRANGERS)
def test_a_strangers_id_has_no_other_name(mysql_site: Site, statement: str) -> None:
    from djworker.db.lease.errors import ReadBackLost

    item = mysql_site.start(max_size=1)
    fill(item, 3)
    with pytest.raises(ReadBackLost):
        view(query, statement)
    eventually(at_rest, "back")


def several(what: str) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1; {what}")
        while cursor.nextset():
            pass


@pytest.mark.parametrize(
    "what",
    [
        "CREATE TEMPORARY TABLE lease_item (x int)",
        "/* x */ SET @mine = 7",
        "/*!50000 SET @mine = 7 */",
        "-- x\nSET @mine = 7",
        "# x\nSET @mine = 7",
        "LOCK TABLES lease_item READ",
        "HANDLER lease_item OPEN",
    ],
)
def test_a_later_statement_of_a_text_pins(mysql_site: Site, what: str) -> None:
    mysql_site.start(max_size=1, options={"client_flag": MULTI_STATEMENTS})

    def work() -> None:
        several(what)
        assert held()

    view(work)
    eventually(at_rest, "wiped")
    assert view(query, "SELECT @mine, count(name) FROM lease_item") == (None, 0)


def test_what_a_trigger_sets_pins_where_no_answer_tells_of_it(mysql_site: Site) -> None:
    """With an answer that has rows, in `executemany()`, and where the statement fails: variables are not rolled back."""
    from django.db import IntegrityError, connection

    mysql_site.start(max_size=1, create=False)
    query("CREATE TABLE watched (n int UNIQUE)")
    query("CREATE TRIGGER watching BEFORE INSERT ON watched FOR EACH ROW SET @mine = NEW.n")
    connection.close()
    pool().drain(2.0)  # triggers are looked for with each new connection

    def rows() -> None:
        query("INSERT INTO watched VALUES (5) RETURNING n")
        assert query("SELECT @mine") == (5,)

    def fails() -> None:
        with pytest.raises(IntegrityError):
            query("INSERT INTO watched VALUES (5)")
        assert query("SELECT @mine") == (5,)

    def several_rows() -> None:
        with pytest.raises(IntegrityError):
            many("INSERT INTO watched VALUES (%s)", [[7], [5]])
        assert query("SELECT @mine") == (5,)

    for work in (rows, fails, several_rows):
        view(work)
        eventually(at_rest, "wiped")
        assert view(query, "SELECT @mine") == (None,)


SPLICED = {
    "a whole statement": ("%s", "SELECT 1", "SET search_path TO information_schema"),
    "a call": ("SELECT %s", "1", "set_config('search_path', 'information_schema', false)"),
    "a value": ("SET search_path TO %s", "public", "information_schema"),
    "in a list": ("SELECT %s", ["1"], ["set_config('search_path', 'information_schema', false)"]),
}


@pytest.mark.parametrize("what", list(SPLICED))
def test_what_a_parameter_puts_into_a_statement_is_judged(postgres_site: Site, what: str) -> None:
    """psycopg2's `AsIs`; psycopg 3 has nothing like it, and takes the text as one."""
    postgres_site.start(max_size=2)
    text, harmless, harmful = SPLICED[what]

    def param(value: Any) -> Any:
        if isinstance(value, list):
            return [param(each) for each in value]
        if postgres_site.driver != "psycopg2":
            return value
        from psycopg2.extensions import AsIs

        return AsIs(value)

    def work() -> None:
        from django.db import DatabaseError

        if postgres_site.driver != "psycopg2":
            with suppress(DatabaseError):
                query(text, [param(harmful)])
            return
        query(text, [param(harmless)])
        query(text, [param(harmful)])
        assert query(WHERE) == THERE
        with held_by_another():
            assert query(WHERE) == THERE

    view(work)
    eventually(at_rest, "wiped")
    assert [view(query, WHERE) for _ in range(3)] == [HERE] * 3


def test_what_was_prepared_in_two_phases_outlives_the_request_and_nothing_else(mysql_site: Site) -> None:
    item = mysql_site.start(max_size=1)

    def work(*last: str) -> None:
        query("XA START 'two phases'")
        query("INSERT INTO lease_item (name) VALUES ('prepared')")
        for statement in last:
            query(statement)

    view(
        query,
        "CREATE PROCEDURE prepares() BEGIN XA START 'two phases'; INSERT INTO lease_item (name) VALUES ('prepared');"
        " XA END 'two phases'; XA PREPARE 'two phases'; END",
    )
    view(work)
    eventually(at_rest, "wiped")
    assert view(item.objects.count) == 0
    for number, prepares in enumerate(
        (partial(work, "XA END 'two phases'", "XA PREPARE 'two phases'"), partial(query, "CALL prepares()"))
    ):
        view(prepares)
        eventually(at_rest, "replaced: after a reset MariaDB has error 1031 for each statement of such a session")
        assert view(item.objects.count) == number
        view(query, "XA COMMIT 'two phases'")
        assert view(item.objects.count) == number + 1
        view(query, f"UPDATE lease_item SET name = 'committed {number}' WHERE name = 'prepared'")

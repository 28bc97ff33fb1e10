"""Steps on PostgreSQL: what statements leave in their session, and what psycopg has beyond the DB-API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.db.contract.fuzz.kinds import POSTGRES, kind, one_of, some

if TYPE_CHECKING:
    from tests.db.contract.fuzz.sides import Session

PSYCOPG3 = frozenset({"psycopg3"})


def ask(s: Session, sql: str, params: Any = None) -> Any:
    """Execute, and the rows if there are any."""
    with s.connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else None


SETTINGS = ("work_mem", "search_path", "app.tenant", "statement_timeout", "TimeZone", "role")

# -- settings -------------------------------------------------------------------------------------------------------------


@kind(
    one_of(
        "SET work_mem = '5MB'",
        "/* x */ set work_mem TO '6MB'",
        "SET search_path TO red",
        "SET search_path = blue, public",
        "SET statement_timeout = 5000",
        "SET SESSION work_mem = '7MB'",
        "SET TIME ZONE 'Asia/Tokyo'",
        "SET ROLE fuzz_role",
        "SET app.tenant = 'red'",
        "SET work_mem = '5MB'; SELECT 1",
        "SELECT 1; SET work_mem = '9MB'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "DO $$ BEGIN PERFORM set_config('work_mem', '11MB', false); END $$",
        "UPDATE pg_settings SET setting = '5120' WHERE name = 'work_mem'",
    ),
    weight=3,
    leaves=True,
    drivers=POSTGRES,
)
def set_in_session(s: Session, sql: str) -> Any:
    return ask(s, sql)


@kind(
    one_of(
        "RESET work_mem",
        "RESET search_path",
        "RESET ROLE",
        "SET work_mem TO DEFAULT",
        "RESET ALL",
        "DISCARD ALL",
        "SET ROLE NONE",
    ),
    leaves=True,
    drivers=POSTGRES,
)
def unset_in_session(s: Session, sql: str) -> Any:
    return ask(s, sql)


@kind(
    some(
        (
            ("work_mem", "8MB"),
            ("search_path", "red"),
            ("search_path", "blue"),
            ("app.tenant", "red"),
            ("app.tenant", "blue"),
        ),
        ("false", "true", "'f'", "'t'", "'off'", "1::bool", "%s"),
    ),
    weight=3,
    leaves=True,
    drivers=POSTGRES,
)
def set_config(s: Session, what: tuple[str, str], local: str) -> Any:
    params = [*what, False] if local == "%s" else list(what)
    return ask(s, f"SELECT set_config(%s, %s, {local})", params)


@kind(one_of("SET LOCAL work_mem = '12MB'", "SET LOCAL search_path = red"), drivers=POSTGRES)
def set_local(s: Session, sql: str) -> Any:
    return ask(s, sql)


@kind(one_of(*SETTINGS), weight=4, drivers=POSTGRES)
def shown(s: Session, name: str) -> Any:
    # A name with a dot that was ever set in the session is empty ever after, and not NULL.
    return ask(s, "SELECT nullif(current_setting(%s, true), '')", [name])


@kind(weight=3, drivers=POSTGRES)
def tenant_read(s: Session) -> Any:
    """From the schema that the search path leads to."""
    return ask(s, f"SELECT schema, note FROM note_{s.number} ORDER BY 1, 2")


@kind(one_of("one", "two"), weight=2, drivers=POSTGRES)
def tenant_wrote(s: Session, note: str) -> Any:
    """Into the schema that the search path leads to."""
    return ask(s, f"INSERT INTO note_{s.number} (note) VALUES (%s) RETURNING schema", [note])


@kind(drivers=POSTGRES)
def who_am_i(s: Session) -> Any:
    return ask(s, "SELECT current_user, session_user, current_schema(), current_setting('transaction_isolation')")


# -- other state ----------------------------------------------------------------------------------------------------------


@kind(one_of("", " ON COMMIT DROP"), leaves=True, weight=1.5, drivers=POSTGRES)
def made_temporary(s: Session, more: str) -> Any:
    return ask(s, f"CREATE TEMP TABLE fuzz_temp{more} AS SELECT 1 AS x")


@kind(
    one_of("SELECT x FROM fuzz_temp", "INSERT INTO fuzz_temp VALUES (2)", "DROP TABLE fuzz_temp"),
    weight=1.5,
    drivers=POSTGRES,
)
def used_temporary(s: Session, sql: str) -> Any:
    return ask(s, sql)


@kind(
    one_of("pg_advisory_lock({})", "pg_try_advisory_lock({})", "pg_advisory_xact_lock({})", "pg_advisory_unlock({})"),
    weight=1.5,
    leaves=True,
    drivers=POSTGRES,
)
def advisory_lock(s: Session, call: str) -> Any:
    return ask(s, f"SELECT {call.format(1000 + s.number)}")


@kind(drivers=POSTGRES)
def locks_of_mine(s: Session) -> Any:
    return ask(s, "SELECT objid::int FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() ORDER BY 1")


@kind(leaves=True, drivers=POSTGRES)
def listened(s: Session) -> Any:
    return ask(s, f"LISTEN fuzz_{s.number}")


@kind(drivers=POSTGRES)
def channels(s: Session) -> Any:
    return ask(s, "SELECT pg_listening_channels()")


@kind(drivers=POSTGRES)
def notified(s: Session) -> Any:
    return ask(s, f"NOTIFY fuzz_{s.number}, 'hello'")


@kind(leaves=True, drivers=POSTGRES)
def prepared(s: Session) -> Any:
    return ask(s, f"PREPARE fuzz_plan AS SELECT count(*) FROM {s.table}")


@kind(one_of("EXECUTE fuzz_plan", "DEALLOCATE fuzz_plan"), drivers=POSTGRES)
def used_prepared(s: Session, sql: str) -> Any:
    return ask(s, sql)


@kind(leaves=True, drivers=POSTGRES)
def declared(s: Session) -> Any:
    return ask(s, f"DECLARE fuzz_cursor CURSOR WITH HOLD FOR SELECT name FROM {s.table} ORDER BY name")


@kind(one_of("FETCH 2 FROM fuzz_cursor", "CLOSE fuzz_cursor"), drivers=POSTGRES)
def used_declared(s: Session, sql: str) -> Any:
    return ask(s, sql)


@kind(leaves=True, drivers=POSTGRES)
def seeded(s: Session) -> Any:
    return ask(s, "SELECT setseed(0.5)")


@kind(weight=0.5, drivers=POSTGRES)
def seeded_and_drawn(s: Session) -> Any:
    return ask(s, "SELECT setseed(0.25)"), ask(s, "SELECT random()")


@kind(one_of("lastval()", "currval('{}_id_seq')"), drivers=POSTGRES)
def read_back(s: Session, call: str) -> Any:
    """After a row of our own. What was never made in this session is an error with Django's engine."""
    with s.whole():
        ask(s, f"INSERT INTO {s.table} (name, number) VALUES ('back', 4)")
        s.pause(0.001)
        return ask(s, f"SELECT {call.format(s.table)}")[0][0] == s.rows.get(name="back").pk


@kind(one_of("txid_current()", "now()", "pg_current_xact_id_if_assigned() IS NULL"), drivers=POSTGRES)
def same_transaction(s: Session, call: str) -> Any:
    """Asked twice."""
    one = ask(s, f"SELECT {call}")
    s.pause(0.001)
    return one == ask(s, f"SELECT {call}")


@kind(drivers=POSTGRES)
def exported_snapshot(s: Session) -> Any:
    return len(ask(s, "SELECT pg_export_snapshot()"))


@kind(one_of("READ ONLY", "ISOLATION LEVEL SERIALIZABLE"), drivers=POSTGRES)
def set_transaction(s: Session, mode: str) -> Any:
    return ask(s, f"SET TRANSACTION {mode}")


@kind(weight=0.5, drivers=POSTGRES)
def raised_notice(s: Session) -> Any:
    return ask(s, "DO $$ BEGIN RAISE NOTICE 'hello'; END $$")


# -- cursors --------------------------------------------------------------------------------------------------------------


@kind(
    one_of("fuzz_add", "lastval", "fuzz_nothing_of_the_kind"),
    drivers=POSTGRES - PSYCOPG3,  # psycopg 3 has no callproc, Django makes one of execute
)
def called(s: Session, name: str) -> Any:
    with s.connection.cursor() as cursor:
        cursor.callproc(name, [1, 2] if name == "fuzz_add" else [])
        found = cursor.fetchall()
    if (
        name == "lastval"
    ):  # the number itself may be higher with ours: a step that was refused may have taken one before
        return [row[0] == max(s.rows.values_list("pk", flat=True)) for row in found]
    return found


@kind(drivers=PSYCOPG3)
def called_function(s: Session) -> Any:
    with s.connection.cursor() as cursor:
        cursor.callproc("fuzz_add", [1, 2])
        return cursor.fetchall()


@kind(weight=0.5, leaves=True, drivers=POSTGRES)
def called_set_config(s: Session) -> Any:
    with s.connection.cursor() as cursor:
        cursor.callproc("set_config", ["app.tenant", "called", False])
        return cursor.fetchall()


@kind(drivers=POSTGRES)
def several(s: Session) -> Any:
    with s.connection.cursor() as cursor:
        cursor.execute("SELECT 1; SELECT 2, 3")
        found = [cursor.fetchall()]
        while hasattr(cursor.cursor, "nextset") and s.site.driver == "psycopg3" and cursor.nextset():
            found.append(cursor.fetchall())
        return found


@kind(some((0, 1, -1, 5), ("relative", "absolute")), drivers=POSTGRES)
def scrolled(s: Session, by: int, mode: str) -> Any:
    with s.connection.cursor() as cursor:
        cursor.execute(f"SELECT name FROM {s.table} ORDER BY name")
        found = [cursor.fetchone()]
        cursor.scroll(by, mode=mode)
        found.append(cursor.rownumber)
        found.append(cursor.fetchone())
        cursor.scroll(0, mode="absolute")
        return [*found, cursor.fetchmany(2), cursor.rownumber, cursor.fetchall()]


@kind(drivers=PSYCOPG3)
def copied_out(s: Session) -> Any:
    with (
        s.connection.cursor() as cursor,
        cursor.copy(f"COPY (SELECT name FROM {s.table} ORDER BY name) TO STDOUT") as copy,
    ):
        return list(copy.rows())


@kind(one_of("x", "y"), drivers=PSYCOPG3)
def copied_in(s: Session, name: str) -> Any:
    with s.connection.cursor() as cursor:
        with cursor.copy(f"COPY {s.table} (name, number) FROM STDIN") as copy:
            copy.write_row((f"copied {name}", 9))
        return cursor.rowcount


@kind(one_of(1, 100), drivers=PSYCOPG3)
def streamed(s: Session, wanted: int) -> Any:
    with s.connection.cursor() as cursor:
        found = []
        rows = cursor.stream(f"SELECT name FROM {s.table} ORDER BY name")
        for row in rows:
            found.append(row)
            if len(found) == wanted:
                rows.close()
                break
        cursor.execute("SELECT 1")  # psycopg's connection reads row by row until then, in a pipeline too
        return found


@kind(weight=0.5, leaves=True, drivers=PSYCOPG3)
def streamed_set_config(s: Session) -> Any:
    with s.connection.cursor() as cursor:
        found = list(cursor.stream("SELECT set_config('app.tenant', 'streamed', false)"))
        cursor.execute("SELECT 1")
        return found


@kind(weight=0.5, leaves=True, drivers=PSYCOPG3)
def copied_set_config(s: Session) -> Any:
    with (
        s.connection.cursor() as cursor,
        cursor.copy("COPY (SELECT set_config('app.tenant', 'copied', false)) TO STDOUT") as copy,
    ):
        return list(copy.rows())


@kind(drivers=POSTGRES)
def returned(s: Session) -> Any:
    with s.connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {s.table} (name, number) VALUES ('returned', 3) RETURNING name")
        return cursor.fetchone(), cursor.statusmessage


@kind(drivers=PSYCOPG3)
def returned_many(s: Session) -> Any:
    with s.connection.cursor() as cursor:
        sql = f"INSERT INTO {s.table} (name, number) VALUES (%s, 3) RETURNING name"
        cursor.executemany(sql, [["r1"], ["r2"]], returning=True)
        found = [cursor.fetchall()]
        while cursor.nextset():
            found.append(cursor.fetchall())
        return found

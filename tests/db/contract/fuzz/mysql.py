"""Steps on MySQL and MariaDB: what statements leave in their session, and results that have more to come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.db.contract.fuzz.kinds import MYSQL, kind, one_of, some

if TYPE_CHECKING:
    from tests.db.contract.fuzz.sides import Session


def ask(s: Session, sql: str, params: Any = None) -> Any:
    """Execute, and the rows if there are any. `{db}` is the database, `{n}` the program's number."""
    with s.connection.cursor() as cursor:
        cursor.execute(sql.replace("{db}", s.database).replace("{n}", str(s.number)), params)
        return cursor.fetchall() if cursor.description else None


VARIABLES = ("@mine", "@@sql_safe_updates", "@@sql_mode", "@@time_zone", "@@group_concat_max_len", "@@tx_read_only")


@kind(
    one_of(
        "SET @mine = 7",
        "SELECT @mine := 8",
        "SELECT 9 INTO @mine",
        "/* x */ SET sql_safe_updates = 1",
        "SET SESSION sql_mode = 'ANSI_QUOTES'",
        "SET time_zone = '+09:00'",
        "SET NAMES latin1",
        "SET SESSION group_concat_max_len = 2048",
        "SET SESSION TRANSACTION READ ONLY",
        "SET foreign_key_checks = 0",
        "SET STATEMENT max_statement_time = 5 FOR SELECT 1",
        "BEGIN NOT ATOMIC SET @mine = 10; END",
    ),
    weight=3,
    leaves=True,
    drivers=MYSQL,
)
def set_variable(s: Session, sql: str) -> Any:
    return ask(s, sql)


@kind(one_of(*VARIABLES), weight=4, drivers=MYSQL)
def variable(s: Session, name: str) -> Any:
    return ask(s, f"SELECT {name}")


@kind(one_of("SET sql_safe_updates = 0", "SET sql_mode = DEFAULT", "SET NAMES utf8mb4"), leaves=True, drivers=MYSQL)
def unset_variable(s: Session, sql: str) -> Any:
    return ask(s, sql)


@kind(one_of("{db}_red", "{db}_blue", "{db}"), weight=2, leaves=True, drivers=MYSQL)
def used_database(s: Session, name: str) -> Any:
    return ask(s, f"USE {name}")


@kind(weight=2, drivers=MYSQL)
def place_read(s: Session) -> Any:
    return ask(s, "SELECT place, note, DATABASE() FROM note_{n} ORDER BY 1, 2")


@kind(one_of("one", "two"), weight=2, drivers=MYSQL)
def place_wrote(s: Session, note: str) -> Any:
    return ask(s, "INSERT INTO note_{n} VALUES (REPLACE(DATABASE(), '{db}', ''), %s)", [note])


@kind(leaves=True, weight=1.5, drivers=MYSQL)
def made_temporary_table(s: Session) -> Any:
    return ask(s, "CREATE TEMPORARY TABLE fuzz_temp (x int)")


@kind(
    one_of("SELECT x FROM fuzz_temp", "INSERT INTO fuzz_temp VALUES (2)", "DROP TEMPORARY TABLE fuzz_temp"),
    weight=1.5,
    drivers=MYSQL,
)
def used_temporary_table(s: Session, sql: str) -> Any:
    return ask(s, sql)


@kind(
    one_of(
        "GET_LOCK('fuzz_{n}', 5)", "IFNULL(RELEASE_LOCK('fuzz_{n}'), 0)", "IS_USED_LOCK('fuzz_{n}') <=> CONNECTION_ID()"
    ),
    weight=2,
    leaves=True,
    drivers=MYSQL,
)
def named_lock(s: Session, call: str) -> Any:
    """The session of the request before ends when the server gets to it: until then it has the lock, with either engine."""
    return ask(s, f"SELECT {call}")


@kind(one_of("LOCK TABLES note_{n} WRITE", "UNLOCK TABLES"), leaves=True, weight=0.7, drivers=MYSQL)
def locked_tables(s: Session, sql: str) -> Any:
    return ask(s, sql)


@kind(
    one_of("PREPARE fuzz_plan FROM 'SELECT 1'", "EXECUTE fuzz_plan", "DEALLOCATE PREPARE fuzz_plan"),
    leaves=True,
    drivers=MYSQL,
)
def prepared_by_hand(s: Session, sql: str) -> Any:
    return ask(s, sql)


@kind(
    one_of(
        "SELECT LAST_INSERT_ID()",
        "SELECT @@identity",
    ),
    weight=2,
    drivers=MYSQL,
)
def looked_back(s: Session, sql: str) -> Any:
    return ask(s, sql)


@kind(one_of("INSERT INTO note_{n} (note) VALUES ('n') RETURNING note"), drivers=MYSQL)
def made_without_a_number(s: Session, sql: str) -> Any:
    """The library does not say that there is none; what is told then was made before, by us."""
    return ask(s, sql)


@kind(one_of("SHOW WARNINGS", "SELECT @@warning_count"), drivers=MYSQL)
def warned(s: Session, sql: str) -> Any:
    """By the statement before; CALL would leave those of an earlier one."""
    ask(s, "SELECT 1 / 0")
    return ask(s, sql)


@kind(one_of("SHOW WARNINGS", "SELECT FOUND_ROWS()"), weight=0.7, drivers=MYSQL)
def looked_back_after_nothing(s: Session, sql: str) -> Any:
    """A statement before that has nothing to do with them: what is told is of an earlier one of ours, or refused."""
    one = ask(s, "SELECT 1 / 0, 2 FROM (SELECT 1 UNION SELECT 2) AS two")
    ask(s, "SET @nothing = 1")
    return one and ask(s, sql)


@kind(one_of("SELECT 1", "SELECT name FROM {table} LIMIT 1"), drivers=frozenset({"mysqlclient"}))
def number_after_rows(s: Session, sql: str) -> Any:
    """Never a stranger's: after a row of our own, that one's."""
    with s.connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {s.table} (name, number) VALUES ('number', 4)")
        made = cursor.lastrowid
        try:
            cursor.execute(sql.format(table=s.table))
        except Exception as error:
            if s.is_refusal(error) and s.alone():
                return True  # the row is there: as a step that did not run, it would be there on one side only
            raise
        return cursor.lastrowid == made


@kind(drivers=MYSQL)
def row_count(s: Session) -> Any:
    """Of the statement before. `is_usable()` is one with us, and a ping with Django's engine."""
    with s.whole():
        ask(s, f"UPDATE {s.table} SET number = number + 1 WHERE number < 3")
        return ask(s, "SELECT ROW_COUNT()")


@kind(drivers=MYSQL)
def found_rows(s: Session) -> Any:
    """Of the statement before. After one without rows, the server tells of an earlier one."""
    ask(s, f"SELECT SQL_CALC_FOUND_ROWS name FROM {s.table} LIMIT 1")
    return ask(s, "SELECT FOUND_ROWS()")


@kind(drivers=MYSQL)
def inserted_and_looked_back(s: Session) -> Any:
    with s.whole(), s.connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {s.table} (name, number) VALUES ('back', 4)")
        return cursor.lastrowid == s.rows.get(name="back").pk


@kind(one_of("SET TRANSACTION READ ONLY", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"), leaves=True, drivers=MYSQL)
def set_next_transaction(s: Session, sql: str) -> Any:
    return ask(s, sql)


@kind(weight=0.5, drivers=MYSQL)
def committed_by_ddl(s: Session) -> Any:
    """Not of a table: with a block open on the second alias, which has read it, that would wait for itself."""
    found = ask(s, "CREATE OR REPLACE VIEW fuzz_committing AS SELECT 1")
    s.by_hand = False
    return found


@kind(drivers=MYSQL)
def called_with_two_results(s: Session) -> Any:
    with s.connection.cursor() as cursor:
        cursor.callproc("fuzz_two")
        found = [cursor.fetchall()]
        while cursor.nextset():
            found.append(cursor.fetchall())
        return found


@kind(one_of("CALL fuzz_two()", "CALL fuzz_add(1, 2)"), drivers=MYSQL)
def called_and_left(s: Session, sql: str) -> Any:
    with s.connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


@kind(drivers=MYSQL)
def called_with_arguments(s: Session) -> Any:
    with s.connection.cursor() as cursor:
        cursor.callproc("fuzz_add", [3, 4])
        return cursor.fetchall()


@kind(some((0, 1, -1, 5), ("relative", "absolute")), drivers=MYSQL)
def scrolled_rows(s: Session, by: int, mode: str) -> Any:
    with s.connection.cursor() as cursor:
        cursor.execute(f"SELECT name FROM {s.table} ORDER BY name")
        found = [cursor.fetchone()]
        cursor.scroll(by, mode=mode)
        found.append(cursor.fetchone())
        cursor.scroll(0, mode="absolute")
        return [*found, cursor.fetchmany(2), cursor.fetchall()]

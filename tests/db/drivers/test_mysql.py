"""What is particular to the MySQL drivers."""

from __future__ import annotations

import importlib
from typing import Any

import gevent
import pytest

from tests.db.drivers.target import Target, eventually, run


def unbuffered(target: Target) -> Any:
    package = "MySQLdb" if target.name == "mysqlclient" else "pymysql"
    return importlib.import_module(f"{package}.cursors").SSCursor


@pytest.mark.parametrize(
    "sql, changed",
    [
        ("SET @mine = 1", True),
        ("SET SESSION sql_mode = ''", True),
        ("CREATE TEMPORARY TABLE mine (a integer)", True),
        ("PREPARE mine FROM 'SELECT 1'", True),
        ("INSERT INTO t VALUES (1)", False),
        ("UPDATE t SET a = 2", False),
        ("DO 1", False),
        ("SELECT 1", None),
    ],
)
def test_the_server_tells_of_changed_session_state(mysql_target: Target, sql: str, changed: object) -> None:
    conn = mysql_target.connect()
    run(conn, "CREATE TABLE t (a integer)")
    for _ in range(2):  # the flag is of the last statement, so it must not stick
        cursor = conn.cursor()
        cursor.execute("INSERT INTO t VALUES (0)")
        assert mysql_target.driver.session_state_changed(conn, cursor) is False
        cursor.execute(sql)
        assert mysql_target.driver.session_state_changed(conn, cursor) is changed
        cursor.close()
        mysql_target.driver.reset(conn)
    mysql_target.driver.close(conn)


def test_several_results_are_read_one_by_one(mysql_target: Target) -> None:
    conn = mysql_target.connect(**({"client_flag": 1 << 16} if mysql_target.name == "pymysql" else {}))
    run(conn, "CREATE PROCEDURE three() BEGIN SELECT 1; SELECT SLEEP(0.1), 2; SELECT 3; END")
    cursor = conn.cursor()
    cursor.execute("CALL three()")
    found = [cursor.fetchall()]
    while cursor.nextset():
        found.append(cursor.fetchall())
    assert [rows[-1][-1] for rows in found if rows] == [1, 2, 3]
    cursor.execute("SELECT 4; SELECT 5")
    assert cursor.fetchall() == ((4,),)
    cursor.close()  # the second answer is read and thrown away
    assert run(conn, "SELECT 6") == [(6,)]
    mysql_target.driver.close(conn)


def test_unbuffered_rows_keep_the_connection_busy(mysql_target: Target) -> None:
    driver = mysql_target.driver
    conn = mysql_target.connect()
    cursor = conn.cursor(unbuffered(mysql_target))
    cursor.execute("SELECT seq FROM seq_1_to_5000")
    assert cursor.fetchone() == (1,)
    assert [row[0] for row in cursor.fetchmany(200)] == list(range(2, 202))
    assert driver.busy(conn)
    assert [row[0] for row in cursor.fetchall()] == list(range(202, 5001))
    assert not driver.busy(conn)
    cursor.close()
    assert run(conn, "SELECT 1") == [(1,)]
    driver.close(conn)


def test_unread_rows_do_not_hold_up_the_end(mysql_target: Target) -> None:
    driver = mysql_target.driver
    conn = mysql_target.connect()
    cursor = conn.cursor(unbuffered(mysql_target))
    # The server sends when its buffer is full: with short rows the first one would come after a thousand.
    cursor.execute("SELECT seq, REPEAT('x', 30000), SLEEP(0.01) FROM seq_1_to_100000")
    assert cursor.fetchone()[0] == 1
    with gevent.Timeout(10):
        driver.cancel(conn)
        driver.close(conn)
    assert mysql_target.sessions() == 0
    cursor.connection = None  # closing the cursor would complain that the connection is gone


def test_rows_that_come_slowly_do_not_stop_the_hub(mysql_target: Target) -> None:
    conn = mysql_target.connect()
    # The first packets come at once, the last after a while: the library alone would block in between.
    slow = gevent.spawn(run, conn, "SELECT seq, REPEAT('x', 1000), IF(seq > 90, SLEEP(0.05), 0) FROM seq_1_to_100")
    turns = 0
    while not slow.ready():
        gevent.sleep(0.005)
        turns += 1
    assert [row[0] for row in slow.get()] == list(range(1, 101))
    assert turns > 20
    mysql_target.driver.close(conn)


@pytest.mark.parametrize("rows", [0, 1, 10, 252, 253, 254, 255, 256, 511, 1000, 3000])
@pytest.mark.parametrize("columns", [1, 3])
def test_results_of_any_size(mysqlclient: Target, rows: int, columns: int) -> None:
    conn = mysqlclient.connect()
    what = ", ".join(["seq"] * columns)
    assert run(conn, f"SELECT {what} FROM seq_1_to_5000 WHERE seq <= {rows}") == [
        (number,) * columns for number in range(1, rows + 1)
    ]
    mysqlclient.driver.close(conn)


def test_a_small_answer_needs_no_thread(mysqlclient: Target) -> None:
    conn = mysqlclient.connect()
    threads: list[Any] = []
    conn._in_thread = lambda function, *args: threads.append(function) or function(*args)
    for sql in ("SELECT 1", "DO 1", "SELECT seq FROM seq_1_to_100", "SET @a = 1"):
        run(conn, sql)
    conn.commit()
    conn.ping()
    assert threads == []
    mysqlclient.driver.close(conn)


def test_the_rest_of_the_library(mysqlclient: Target) -> None:
    conn = mysqlclient.connect()
    conn.select_db(mysqlclient.database)
    conn.set_character_set("latin1", "latin1_swedish_ci")
    assert run(conn, "SELECT 'ü'") == [("ü",)]
    conn.set_character_set("utf8mb4")
    assert "Uptime" in conn.stat()
    run(conn, "SET @mine = 1")
    conn.change_user(conn.user, "secret", mysqlclient.database)
    assert run(conn, "SELECT @mine") == [(None,)]
    with conn.cursor() as cursor:
        cursor.executemany("SELECT %s", [(1,), (2,)])
    conn.begin()
    assert mysqlclient.driver.in_transaction(conn)
    conn.rollback()
    mysqlclient.driver.close(conn)


def test_two_greenlets_on_one_connection_are_told(mysql_target: Target) -> None:
    if mysql_target.name == "pymysql":
        return  # gevent's own guard of a socket: ConcurrentObjectUseError
    conn = mysql_target.connect()
    first = gevent.spawn(run, conn, mysql_target.sleep_sql(0.5))
    eventually(lambda: mysql_target.active() == 1, "the statement runs")
    with pytest.raises(mysql_target.driver.error):
        run(conn, "SELECT 1")
    first.get()
    assert run(conn, "SELECT 1") == [(1,)]
    mysql_target.driver.close(conn)


def test_one_tls_context_for_all(pymysql: Target) -> None:
    connections = [pymysql.connect() for _ in range(3)]
    assert len({id(conn.ctx) for conn in connections}) == 1
    for conn in connections:
        pymysql.driver.close(conn)


def test_a_killed_commit_is_busy(mysql_target: Target) -> None:
    driver = mysql_target.driver
    conn = mysql_target.connect()
    mysql_target.proxy.deaf()  # no answer comes, however long this takes
    worker = gevent.spawn(conn.commit)
    gevent.sleep(0.01)
    worker.kill()
    assert driver.busy(conn)
    mysql_target.proxy.start()
    driver.cancel(conn)
    driver.close(conn)
    eventually(lambda: mysql_target.sessions() == 0, "the session is gone")


def test_reset_restores_what_connect_was_asked_for(mysql_target: Target) -> None:
    wanted = {
        "collation": "utf8mb4_unicode_ci",
        "sql_mode": "ANSI_QUOTES",
        "init_command": "SET SESSION lock_wait_timeout = 77",
    }
    conn = mysql_target.driver.connect(mysql_target.params(**wanted))
    state = "SELECT @@collation_connection, @@sql_mode, @@lock_wait_timeout, @@autocommit, @@session_track_state_change"
    before = run(conn, state)
    assert before == [("utf8mb4_unicode_ci", "ANSI_QUOTES", 77, 0, 1)]
    conn.set_character_set("latin1")
    run(conn, "SET SESSION sql_mode = '', SESSION lock_wait_timeout = 1, autocommit = 1")
    mysql_target.driver.reset(conn)
    assert run(conn, state) == before
    assert run(conn, "SELECT 'ü'") == [("ü",)]
    mysql_target.driver.close(conn)


def test_reset_goes_back_to_the_database_of_the_login(mysql_target: Target) -> None:
    conn = mysql_target.connect()
    run(conn, "USE information_schema")
    mysql_target.driver.reset(conn)
    assert run(conn, "SELECT DATABASE()") == [(mysql_target.database,)]
    mysql_target.driver.close(conn)


def test_a_session_without_a_database_cannot_go_back_to_none(mysql_target: Target) -> None:
    driver = mysql_target.driver
    conn = driver.connect(
        {name: value for name, value in mysql_target.params().items() if name not in ("db", "database")}
    )
    driver.reset(conn)
    run(conn, "USE information_schema")
    with pytest.raises(driver.error, match="can only be replaced"):
        driver.reset(conn)
    driver.close(conn)


def test_a_time_limit_on_an_answer_that_a_thread_reads_is_itself(mysql_target: Target) -> None:
    conn = mysql_target.connect()
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.3), conn.cursor() as cursor:
        cursor.execute("SELECT seq, REPEAT('x', 1000), IF(seq > 90, SLEEP(1), 0) FROM seq_1_to_100")
    assert mysql_target.driver.busy(conn)
    mysql_target.driver.cancel(conn)
    mysql_target.driver.close(conn)


def test_a_time_limit_on_unbuffered_rows_leaves_the_connection_busy(mysql_target: Target) -> None:
    driver, conn = mysql_target.driver, mysql_target.connect()

    def read() -> None:
        with gevent.Timeout(0.5), conn.cursor(unbuffered(mysql_target)) as cursor:
            cursor.execute("SELECT seq, REPEAT('x', 1000), SLEEP(0.01) FROM seq_1_to_100000")
            cursor.fetchall()

    with pytest.raises(gevent.Timeout):
        read()
    assert driver.busy(conn)
    with pytest.raises(driver.error):
        run(conn, "SELECT 1")
    driver.cancel(conn)
    driver.close(conn)
    assert mysql_target.sessions() == 0


def test_a_role_does_not_outlive_the_reset(mysql_target: Target) -> None:
    server, driver = mysql_target.server, mysql_target.driver
    role = f"boss_of_{mysql_target.database}"
    server.execute(f"CREATE ROLE {role}")
    server.execute(f"GRANT {role} TO '{server.user}'@'{server.host}'")
    conn = mysql_target.connect()
    run(conn, f"SET ROLE {role}")
    with pytest.raises(driver.error, match="can only be replaced"):
        driver.reset(conn)
    driver.close(conn)
    server.execute(f"DROP ROLE {role}")

"""SQLite: many greenlets write to one file, and the hub never stops for a lock."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import pytest

from tests.db.drivers.target import eventually, fork, run

OTHER_PROCESS = """
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None)
conn.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
conn.execute("INSERT INTO t VALUES (99)")
conn.execute("COMMIT")
"""


def driver() -> Any:
    from djworker.db.drivers.sqlite import SQLiteDriver

    return SQLiteDriver()


def connect(folder: Path, **more: Any) -> Any:
    conn = driver().connect({"database": str(folder / "db.sqlite3"), "check_same_thread": False, "uri": True, **more})
    driver().set_autocommit(conn, True)
    run_(conn, "CREATE TABLE IF NOT EXISTS t (a integer)")
    return conn


def run_(conn: Any, sql: str) -> list[tuple[Any, ...]]:
    return run(conn, sql, ())


def test_a_file_is_in_wal_mode(tmp_path: Path) -> None:
    conn = connect(tmp_path)
    assert run_(conn, "PRAGMA journal_mode") == [("wal",)]
    conn.close()
    memory = driver().connect({"database": ":memory:"})
    run_(memory, "CREATE TABLE t (a integer)")
    memory.close()


def test_a_transaction_that_waits_for_something_else_does_not_stop_the_hub(tmp_path: Path) -> None:
    first, second, third = (connect(tmp_path) for _ in range(3))
    go_on = gevent.event.Event()

    def slow() -> None:
        run_(first, "BEGIN IMMEDIATE")
        run_(first, "INSERT INTO t VALUES (1)")
        go_on.wait()
        run_(first, "COMMIT")

    holder = gevent.spawn(slow)
    gevent.sleep(0)
    waiter = gevent.spawn(run_, second, "INSERT INTO t VALUES (2)")
    gevent.sleep(0.05)
    assert not waiter.ready()
    assert run_(third, "SELECT a FROM t") == []  # readers are not held up
    go_on.set()
    holder.get()
    waiter.get()
    assert run_(third, "SELECT a FROM t") == [(1,), (2,)]
    for conn in (first, second, third):
        conn.close()


def test_writers_are_served_in_order(tmp_path: Path) -> None:
    holder = connect(tmp_path)
    writers = [connect(tmp_path) for _ in range(20)]
    run_(holder, "BEGIN IMMEDIATE")
    waiting = []
    for number, conn in enumerate(writers):
        waiting.append(gevent.spawn(run_, conn, f"INSERT INTO t VALUES ({number})"))
        gevent.sleep(0)
    run_(holder, "ROLLBACK")
    gevent.joinall(waiting, raise_error=True)
    assert run_(holder, "SELECT a FROM t ORDER BY rowid") == [(number,) for number in range(20)]
    for conn in (holder, *writers):
        conn.close()


def test_no_turn_in_time(tmp_path: Path) -> None:
    holder, other = connect(tmp_path), connect(tmp_path, timeout=0.1)
    run_(holder, "BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        run_(other, "INSERT INTO t VALUES (1)")
    run_(holder, "COMMIT")
    run_(other, "INSERT INTO t VALUES (1)")
    holder.close()
    other.close()


def test_killed_writers_leave_the_queue_in_order(tmp_path: Path) -> None:
    holder = connect(tmp_path)
    writers = [connect(tmp_path) for _ in range(10)]
    run_(holder, "BEGIN IMMEDIATE")
    waiting = [gevent.spawn(run_, conn, "INSERT INTO t VALUES (1)") for conn in writers]
    gevent.sleep(0)
    gevent.killall(waiting[::2])
    run_(holder, "COMMIT")
    waiting[1].kill()  # handed over in this turn of the hub, perhaps
    gevent.joinall(waiting)
    assert len(holder._queue) == 0
    assert holder._queue.holder is None
    run_(holder, "INSERT INTO t VALUES (2)")
    for conn in (holder, *writers):
        conn.close()


def test_closing_in_a_transaction_frees_the_lock(tmp_path: Path) -> None:
    holder, other = connect(tmp_path), connect(tmp_path)
    run_(holder, "BEGIN IMMEDIATE")
    run_(holder, "INSERT INTO t VALUES (1)")
    waiter = gevent.spawn(run_, other, "INSERT INTO t VALUES (2)")
    gevent.sleep(0)
    holder.close()
    waiter.get(timeout=5)
    assert run_(other, "SELECT a FROM t") == [(2,)]
    other.close()


def test_another_writer_waits_for_a_commit(tmp_path: Path) -> None:
    conn, other = connect(tmp_path), connect(tmp_path)
    driver().set_autocommit(conn, False)
    run_(conn, "INSERT INTO t VALUES (1)")
    assert driver().in_transaction(conn)
    waiter = gevent.spawn(run_, other, "INSERT INTO t VALUES (2)")
    gevent.sleep(0)
    conn.commit()
    waiter.get(timeout=5)
    conn.close()
    other.close()


def test_returning_rows_do_not_hold_the_lock(tmp_path: Path) -> None:
    conn, other = connect(tmp_path), connect(tmp_path, timeout=0.05)
    cursor = conn.cursor()
    cursor.execute("INSERT INTO t VALUES (1), (2), (3) RETURNING a")
    run_(other, "INSERT INTO t VALUES (4)")
    assert [cursor.fetchone(), *cursor.fetchmany(1), *cursor.fetchall()] == [(1,), (2,), (3,)]
    assert cursor.fetchone() is None
    conn.close()
    other.close()


def test_executemany_writes_all_or_nothing(tmp_path: Path) -> None:
    conn = connect(tmp_path)
    conn.executemany("INSERT INTO t VALUES (?)", iter([(1,), (2,)]))
    with pytest.raises(sqlite3.Error):
        conn.executemany("INSERT INTO t VALUES (?)", iter([(3,), (4, 5)]))
    assert run_(conn, "SELECT a FROM t") == [(1,), (2,)]
    assert not conn.in_transaction
    conn.close()


def test_another_process_that_writes_is_waited_for_in_the_hub(tmp_path: Path) -> None:
    conn = connect(tmp_path)
    command = [sys.executable, "-c", OTHER_PROCESS, str(tmp_path / "db.sqlite3")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        waiter = gevent.spawn(run_, conn, "INSERT INTO t VALUES (1)")
        gevent.sleep(0.1)
        assert not waiter.ready()
        other.communicate("go\n")
        waiter.get(timeout=10)
    assert run_(conn, "SELECT a FROM t") == [(99,), (1,)]
    conn.close()


def test_a_forked_child_starts_with_a_free_queue(tmp_path: Path) -> None:
    conn = connect(tmp_path)
    run_(conn, "BEGIN IMMEDIATE")
    pid = fork()
    if pid == 0:
        try:
            from djworker.db.drivers import sqlite_queue

            driver().forget(conn)
            os._exit(1 if sqlite_queue._queues else 0)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    run_(conn, "INSERT INTO t VALUES (1)")
    run_(conn, "COMMIT")
    conn.close()


def test_other_cursor_classes_take_turns_too(tmp_path: Path) -> None:
    class Shouting(sqlite3.Cursor):
        def execute(self, sql: str, *args: Any) -> Any:
            return super().execute(sql.upper(), *args)

    conn, other = connect(tmp_path), connect(tmp_path, timeout=0.05)
    cursor = conn.cursor(factory=Shouting)
    cursor.execute("begin immediate")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        run_(other, "INSERT INTO t VALUES (1)")
    cursor.execute("commit")
    cursor.close()
    conn.close()
    other.close()


@pytest.mark.parametrize(
    "sql, expected",
    [
        ("SELECT 1", False),
        ("  -- why\n /* here */ (SELECT 1", False),
        ("with x as (select 1) select * from x", False),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", True),
        ("insert into t values (1)", True),
        ("BEGIN", False),
        ("BEGIN DEFERRED", False),
        ("begin immediate", True),
        ("SAVEPOINT a", False),
        ("CREATE TABLE t (a)", True),
        ("", True),
    ],
)
def test_what_writes_is_known_by_its_words(sql: str, expected: object) -> None:
    from djworker.db.drivers.sqlite import writes

    assert writes(sql) is expected


def test_a_crowd_of_writers_and_readers(tmp_path: Path) -> None:
    def add(number: int) -> None:
        conn = connect(tmp_path, timeout=30)
        for _ in range(10):
            run_(conn, "BEGIN IMMEDIATE")
            (count,) = run_(conn, "SELECT count(*) FROM t")[0]
            gevent.sleep(0)
            run_(conn, f"INSERT INTO t VALUES ({count})")
            run_(conn, "COMMIT")
        conn.close()

    gevent.joinall([gevent.spawn(add, number) for number in range(10)], raise_error=True)
    conn = connect(tmp_path)
    assert run_(conn, "SELECT a FROM t ORDER BY a") == [(number,) for number in range(100)]
    eventually(lambda: conn._queue.holder is None, "nobody holds the lock")
    conn.close()


def test_with_a_connection_commits_and_gives_the_turn_back(tmp_path: Path) -> None:
    conn, other = connect(tmp_path), connect(tmp_path, timeout=0.05)
    driver().set_autocommit(conn, False)
    with conn:
        run_(conn, "INSERT INTO t VALUES (1)")
    run_(other, "INSERT INTO t VALUES (2)")
    assert run_(other, "SELECT a FROM t") == [(1,), (2,)]
    conn.close()
    other.close()

"""What is particular to the PostgreSQL drivers."""

from __future__ import annotations

import gevent
import pytest

from tests.db.drivers.target import Target, eventually, run


def test_prepared_statements_are_kept(psycopg3: Target) -> None:
    conn = psycopg3.connect(prepare_threshold=2)
    for number in range(5):
        assert run(conn, "SELECT %s::int", (number,)) == [(number,)]
    assert len(run(conn, "SELECT name FROM pg_prepared_statements")) == 1
    psycopg3.driver.reset(conn)
    for number in range(5):
        assert run(conn, "SELECT %s::int", (number,)) == [(number,)]
    psycopg3.driver.close(conn)


def test_a_waiting_connection_never_wakes_up(psycopg3: Target) -> None:
    conn = psycopg3.connect()
    waits = 0
    wait = conn.watch.wait

    class Counting:
        @staticmethod
        def wait(events: int) -> int:
            nonlocal waits
            waits += 1
            ready: int = wait(events)
            return ready

    conn._watch, watch = Counting, conn._watch
    run(conn, psycopg3.sleep_sql(0.5))
    conn._watch = watch
    assert waits <= 2
    psycopg3.driver.close(conn)


def test_closing_wakes_up_who_waits(psycopg3: Target) -> None:
    conn = psycopg3.connect()
    sleeper = gevent.spawn(run, conn, psycopg3.sleep_sql(30))
    eventually(lambda: psycopg3.active() == 1, "the statement runs")
    conn.close()
    with pytest.raises(psycopg3.driver.error):
        sleeper.get(timeout=10)
    psycopg3.driver.close(conn)


def test_command_tags_are_told_of_each_statement(postgres_target: Target) -> None:
    driver = postgres_target.driver
    conn = postgres_target.connect()
    cursor = conn.cursor()
    for sql, tags in (("SELECT 1", ("SELECT 1",)), ("SET work_mem = '4MB'", ("SET",)), ("LISTEN a", ("LISTEN",))):
        cursor.execute(sql)
        assert driver.command_tags(cursor) == tags
    cursor.execute("SELECT 1; SET work_mem = '5MB'")
    assert driver.command_tags(cursor)[-1] == "SET"
    cursor.close()
    driver.close(conn)


def test_copy_and_stream_are_green(psycopg3: Target) -> None:
    conn = psycopg3.connect()
    run(conn, "CREATE TABLE t (a integer)")
    with conn.cursor() as cursor:
        with cursor.copy("COPY t FROM STDIN") as copy:
            for number in range(10000):
                copy.write_row((number,))
        assert sum(row[0] for row in cursor.stream("SELECT a FROM t")) == sum(range(10000))
        with cursor.copy("COPY t TO STDOUT") as copy:
            assert len(list(copy.rows())) == 10000
    with conn.cursor("named") as cursor, conn.transaction():
        cursor.execute("SELECT a FROM t")
        assert len(cursor.fetchmany(10)) == 10
    psycopg3.driver.close(conn)


def test_an_abandoned_copy_can_be_cancelled(psycopg3: Target) -> None:
    driver = psycopg3.driver
    conn = psycopg3.connect()
    run(conn, "CREATE TABLE t (a integer)")
    copy = conn.cursor().copy("COPY t FROM STDIN")
    copy.__enter__().write_row((1,))
    assert driver.busy(conn)
    driver.cancel(conn)
    driver.close(conn)
    eventually(lambda: psycopg3.sessions() == 0, "the session is gone")


def test_a_pipeline_gives_its_rows_in_order(psycopg3: Target) -> None:
    conn = psycopg3.connect()
    with conn.pipeline():
        cursors = [conn.execute("SELECT %s::int", (number,)) for number in range(200)]
    assert [cursor.fetchone()[0] for cursor in cursors] == list(range(200))
    psycopg3.driver.close(conn)


def test_notifications_are_heard_while_others_speak(psycopg3: Target) -> None:
    listener, speaker = psycopg3.connect(), psycopg3.connect()
    run(listener, "LISTEN channel")
    heard = gevent.spawn(lambda: [notice.payload for notice in listener.notifies(timeout=10, stop_after=1)])
    gevent.sleep(0)
    run(speaker, "NOTIFY channel, 'hello'")
    assert heard.get(timeout=20) == ["hello"]
    for conn in (listener, speaker):
        psycopg3.driver.close(conn)


def test_kill_at_any_moment_leaves_no_wrong_answer(postgres_target: Target) -> None:
    driver = postgres_target.driver
    for delay in (0, 0.0005, 0.001, 0.002, 0.005):
        conn = postgres_target.connect()
        worker = gevent.spawn(run, conn, "SELECT pg_sleep(0.001), 'wrong'")
        gevent.sleep(delay)
        worker.kill()
        if driver.busy(conn):
            driver.cancel(conn)
        elif not driver.is_broken(conn):
            assert run(conn, "SELECT 'right'") == [("right",)]
        driver.close(conn)


def test_many_rounds_on_a_session_that_has_ended_raise(psycopg3: Target) -> None:
    """Libpq closes its socket when it notices, and psycopg's pipeline would wait on that once more."""
    import psycopg

    conn = psycopg3.connect()
    run(conn, "CREATE TABLE many (n int)")
    psycopg3.server.terminate_backends(psycopg3.database)
    eventually(conn.watch.readable, "the end has arrived")
    with conn.cursor() as cursor, pytest.raises(psycopg.OperationalError), gevent.Timeout(10):
        cursor.executemany("INSERT INTO many VALUES (%s)", [(1,), (2,)])
    psycopg3.driver.close(conn)

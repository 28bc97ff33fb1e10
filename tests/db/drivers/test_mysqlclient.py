"""What a driver has to mind whose C library is used by native threads, and has faults of its own."""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent.monkey import get_original

from tests.db.drivers.target import Target, eventually, run

LONGLONG, DATETIME = 8, 12  # MySQLdb.constants.FIELD_TYPE, which pytest's own process never imports


def unbuffered(conn: Any) -> Any:
    from MySQLdb.cursors import SSCursor

    return conn.cursor(SSCursor)


def test_a_reset_that_finds_the_connection_lost_does_not_log_in_anew(mysqlclient: Target) -> None:
    driver, conn = mysqlclient.driver, mysqlclient.connect()
    logins: list[Any] = []
    conn.change_user = lambda *args: logins.append(args)  # the library's would write into memory that it has freed
    mysqlclient.server.terminate_backends(mysqlclient.database)
    with pytest.raises(driver.error):
        driver.reset(conn)
    assert logins == []
    assert driver.is_broken(conn)
    driver.close(conn)


def test_nor_does_one_after_an_answer_that_ended_early(mysqlclient: Target) -> None:
    driver, conn = mysqlclient.driver, mysqlclient.connect()
    conn.query("SELECT seq, REPEAT('x', 1000) FROM seq_1_to_100000")
    conn.wire.whole = True  # as after a wrong guess
    mysqlclient.server.terminate_backends(mysqlclient.database)
    with pytest.raises(driver.error):
        conn.store_result()
    with pytest.raises(driver.error, match="the connection was lost"):
        conn.change_user(conn.user, "secret", mysqlclient.database)
    driver.close(conn)


def test_a_reset_without_the_command_is_a_new_login(mysqlclient: Target) -> None:
    driver, conn = mysqlclient.driver, mysqlclient.connect()
    run(conn, "SET @mine = 1")
    conn.handle = SimpleNamespace(reset=lambda: False, server_status=lambda: None)
    driver.reset(conn)
    assert run(conn, "SELECT @mine") == [(None,)]
    driver.close(conn)


@pytest.mark.parametrize("more", ["SELECT 5", "NONSENSE", "SELECT SLEEP(0.2); SELECT 6", "DO 1; NONSENSE", "DO 1"])
def test_a_reset_reads_the_answers_that_nobody_wanted(mysqlclient: Target, more: str) -> None:
    driver, conn = mysqlclient.driver, mysqlclient.connect()
    run(conn, "SET @mine = 1")
    cursor = conn.cursor()
    cursor.execute(f"SELECT 4; {more}")
    with gevent.Timeout(10):
        driver.reset(conn)
    assert run(conn, "SELECT @mine") == [(None,)]
    driver.close(conn)


def test_unbuffered_rows_that_end_in_an_error(mysqlclient: Target) -> None:
    driver, conn = mysqlclient.driver, mysqlclient.connect()
    sql = "SELECT seq, REPEAT('x', 1000), IF(seq < 400, 1, (SELECT 1 UNION SELECT 2)) FROM seq_1_to_500"
    with unbuffered(conn) as cursor:
        cursor.execute(sql)
        with pytest.raises(driver.error, match="more than 1 row"):
            cursor.fetchall()
        assert cursor.fetchall() == ()
    assert not driver.busy(conn)
    assert run(conn, "SELECT 1") == [(1,)]
    driver.close(conn)


@pytest.mark.parametrize("seconds", [0.1, 10], ids=["killed", "not killed"])
def test_a_connection_that_was_closed_before_its_rows_were_read_is_freed(mysqlclient: Target, seconds: float) -> None:
    conn = mysqlclient.connect()
    cursor = unbuffered(conn)
    cursor.execute("SELECT seq, REPEAT('x', 1000), SLEEP(0.01) FROM seq_1_to_1000")
    with gevent.Timeout(seconds, False):
        assert cursor.fetchone()[0] == 1
    mysqlclient.driver.close(conn)
    freed = weakref.ref(conn)
    del conn, cursor
    eventually(lambda: gc.collect() >= 0 and freed() is None, "it is freed")


@contextmanager
def number_reused(number: int) -> Iterator[None]:
    """Somebody else's socket with this descriptor, which must have been closed; nothing may happen to it."""
    with ExitStack() as stack:
        ends: list[tuple[Any, Any]] = []
        while number not in {line.fileno() for pair in ends for line in pair}:
            assert len(ends) < 100, f"{number} is still in use"
            ends.append(tuple(stack.enter_context(line) for line in socket.socketpair()))  # type: ignore[arg-type]
        yield
        for one, other in ends:
            for line in (one, other):
                line.settimeout(1)
            one.sendall(b"ping")
            assert other.recv(4) == b"ping"
            other.sendall(b"pong")
            assert one.recv(4) == b"pong"


def test_a_close_leaves_alone_who_has_the_number_of_its_socket(mysqlclient: Target) -> None:
    driver, conn = mysqlclient.driver, mysqlclient.connect()
    number = conn.fileno()
    # The library reads the rows in a native thread; it closes the socket there when the session is killed.
    reader = gevent.spawn(run, conn, "SELECT seq, REPEAT('x', 1000), IF(seq > 90, SLEEP(1), 0) FROM seq_1_to_200")
    eventually(lambda: conn._thread is not None, "a thread reads")
    reader.kill()
    driver.cancel(conn)
    conn._thread.wait()
    with number_reused(number):
        driver.close(conn)


def test_nor_does_it_when_it_is_forgotten(mysqlclient: Target) -> None:
    driver, conn = mysqlclient.driver, mysqlclient.connect()
    number = conn.fileno()
    mysqlclient.server.terminate_backends(mysqlclient.database)
    with pytest.raises(driver.error):
        run(conn, "SELECT 1")
    with number_reused(number):
        driver.forget(conn)


def test_a_cursor_that_is_collected_while_rows_are_made_does_not_stop_the_hub(mysqlclient: Target) -> None:
    """faulthandler ends the interpreter if it does: no timer of gevent's fires then."""
    conn = mysqlclient.connect()
    gc.disable()
    try:
        cursor = unbuffered(conn)
        cursor.execute("SELECT 1")
        cursor.fetchall()
        cursor.itself = cursor
        del cursor
        conn.converter[DATETIME] = lambda _: gc.collect()
        assert run(conn, "SELECT NOW()")[0][0] > 0
    finally:
        gc.enable()
    mysqlclient.driver.close(conn)


def test_an_error_from_a_thread_leaves_nothing_to_the_collector(mysqlclient: Target) -> None:
    conn = mysqlclient.connect()
    gc.disable()
    try:
        with pytest.raises(mysqlclient.driver.error) as caught:
            conn.set_character_set("nonsense")
        error = weakref.ref(caught.value)
        del caught
        eventually(lambda: error() is None, "it is freed, as soon as gevent has done its own part")
    finally:
        gc.enable()
    mysqlclient.driver.close(conn)


def test_a_connection_that_is_closed_under_a_reader_sends_no_more_threads(mysqlclient: Target) -> None:
    driver, conn = mysqlclient.driver, mysqlclient.connect()
    sleep = get_original("time", "sleep")
    conn.converter[LONGLONG] = lambda value: sleep(0.001) or int(value)  # in the thread, with the library's lock
    cursor = unbuffered(conn)
    cursor.execute("SELECT seq FROM seq_1_to_1000")
    reader = gevent.spawn(cursor.fetchall)
    gevent.sleep(0.03)  # a good deal of rows is in the library's buffer, and would be read after the first hundred
    thread = conn._thread
    wait = thread.wait
    thread.wait = lambda: wait() or gevent.sleep(0.03)  # who reads wakes up first, and may have a head start
    driver.close(conn)
    assert not conn.open
    reader.join()
    assert isinstance(reader.exception, driver.error)

"""What holds for every driver."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import gevent
import pytest

from tests.db.drivers.target import Target, eventually, fork, run


def killed_in_query(target: Target, sql: str) -> Any:
    """A connection whose greenlet was killed while it waited for the answer."""
    conn = target.connect()
    worker = gevent.spawn(run, conn, sql)
    eventually(lambda: target.active() == 1, "the statement runs")
    worker.kill()
    return conn


def test_waiting_queries_run_side_by_side(target: Target) -> None:
    connections = [target.connect() for _ in range(20)]
    sleepers = [gevent.spawn(run, conn, target.sleep_sql(5)) for conn in connections]
    eventually(lambda: target.active() == len(connections), "all statements run at the same time")
    gevent.killall(sleepers)
    for conn in connections:
        target.driver.cancel(conn)
        target.driver.close(conn)
    assert target.sessions() == 0


def test_nothing_blocks_the_hub_here(target: Target) -> None:
    assert target.driver.blocks_hub() == ""


def test_connect_by_name(postgres_target: Target) -> None:
    conn = postgres_target.connect(host="localhost")  # to MySQL's libraries that name means a Unix socket
    assert run(conn, "SELECT 1") == [(1,)]
    postgres_target.driver.close(conn)


def test_a_silent_server_costs_the_connect_timeout_and_no_more(target: Target) -> None:
    target.proxy.deaf()
    turns = 0

    def tick() -> None:
        nonlocal turns
        while True:
            gevent.sleep(0.005)
            turns += 1

    ticker = gevent.spawn(tick)
    with gevent.Timeout(15), pytest.raises(target.driver.error):
        target.connect(connect_timeout=2)
    ticker.kill()
    assert turns > 50


def test_refused_and_unknown(target: Target) -> None:
    for wrong in ({"password": "wrong"}, {"dbname" if target.dialect == "postgres" else "database": "nowhere"}):
        with pytest.raises(target.driver.error):
            target.connect(**wrong)
    target.proxy.stop()
    with pytest.raises(target.driver.error):
        target.connect()
    assert target.sessions() == 0


def test_a_killed_query_is_stopped_in_the_server(target: Target) -> None:
    driver = target.driver
    conn = killed_in_query(target, target.sleep_sql(30))
    assert driver.busy(conn)
    assert target.active() == 1
    driver.cancel(conn)
    assert target.active() == 0
    driver.close(conn)
    assert target.sessions() == 0


def test_a_timeout_in_a_query_leaves_it_busy(target: Target) -> None:
    driver = target.driver
    conn = target.connect()
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.2):
        run(conn, target.sleep_sql(30))
    assert driver.busy(conn)
    with pytest.raises(driver.error):
        run(conn, "SELECT 1")
    driver.cancel(conn)
    driver.close(conn)
    eventually(lambda: target.sessions() == 0, "the session is gone")


def test_cancel_without_a_network_ends(target: Target) -> None:
    driver = target.driver
    conn = killed_in_query(target, target.sleep_sql(3))
    target.proxy.stop()
    with gevent.Timeout(15):
        with suppress(driver.error):
            driver.cancel(conn)
        driver.close(conn)
    assert driver.is_broken(conn)


def test_close_returns_when_the_server_has_let_go(target: Target) -> None:
    driver = target.driver
    for _ in range(20):
        conn = target.connect()
        run(conn, "SELECT 1")
        driver.close(conn)
        assert driver.is_broken(conn)
    eventually(lambda: target.sessions() == 0, "no session left")


def test_a_server_that_hung_up_is_seen_without_asking(target: Target) -> None:
    driver = target.driver
    conn = target.connect()
    assert not driver.is_broken(conn)
    assert not driver.busy(conn)
    target.server.terminate_backends(target.database)
    eventually(lambda: driver.is_broken(conn), "the connection is found broken")
    with pytest.raises(driver.error):
        driver.check(conn)
    assert driver.is_broken(conn)
    driver.close(conn)


def test_a_cut_network_is_seen_without_asking(target: Target) -> None:
    driver = target.driver
    conn = target.connect()
    target.proxy.cut()
    eventually(lambda: driver.is_broken(conn), "the connection is found broken")
    driver.close(conn)


def test_a_session_killed_in_mid_query_raises(target: Target) -> None:
    driver = target.driver
    conn = target.connect()
    worker = gevent.spawn(run, conn, target.sleep_sql(30))
    eventually(lambda: target.active() == 1, "the statement runs")
    target.server.terminate_backends(target.database)
    with pytest.raises(driver.error):
        worker.get(timeout=10)
    assert driver.is_broken(conn)
    driver.close(conn)


def test_a_network_that_is_cut_in_mid_query_raises(target: Target) -> None:
    driver = target.driver
    conn = target.connect()
    worker = gevent.spawn(run, conn, target.sleep_sql(30))
    eventually(lambda: target.active() == 1, "the statement runs")
    target.proxy.cut()
    with pytest.raises(driver.error):
        worker.get(timeout=10)
    assert driver.is_broken(conn)
    driver.close(conn)


def test_a_check_costs_a_round_trip_and_leaves_nothing(target: Target) -> None:
    driver = target.driver
    conn = target.connect()
    before = target.proxy.stats()["round_trips"]
    driver.check(conn)
    assert target.proxy.stats()["round_trips"] <= before + 2
    assert not driver.in_transaction(conn)
    driver.close(conn)


def test_autocommit_and_transactions(target: Target) -> None:
    driver = target.driver
    conn = target.connect()
    run(conn, "CREATE TABLE t (a integer)")
    assert driver.autocommit(conn)
    assert not driver.in_transaction(conn)
    run(conn, "BEGIN")
    assert driver.in_transaction(conn)
    run(conn, "SELECT * FROM t")
    assert driver.in_transaction(conn)
    run(conn, "ROLLBACK")
    driver.set_autocommit(conn, False)
    assert not driver.autocommit(conn)
    run(conn, "INSERT INTO t VALUES (1)")
    assert driver.in_transaction(conn)
    conn.rollback()
    assert not driver.in_transaction(conn)
    run(conn, "INSERT INTO t VALUES (2)")
    conn.commit()
    driver.set_autocommit(conn, True)
    assert run(conn, "SELECT a FROM t") == [(2,)]
    driver.close(conn)


def test_an_unchanged_autocommit_costs_no_round_trip(target: Target) -> None:
    driver = target.driver
    conn = target.connect()
    before = target.proxy.stats()["round_trips"]
    for _ in range(10):
        driver.set_autocommit(conn, True)
    assert target.proxy.stats()["round_trips"] == before
    driver.close(conn)


def test_reset_forgets_the_session(target: Target) -> None:
    driver = target.driver
    conn = target.connect()
    backend = driver.backend_id(conn)
    if target.dialect == "postgres":
        run(conn, "SET application_name = 'mine'")
        run(conn, "SELECT pg_advisory_lock(7)")
        state = (
            "SELECT current_setting('application_name'), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')"
        )
        clean = ("", 0)
    else:
        run(conn, "SET @mine = 1")
        run(conn, "SELECT GET_LOCK('mine', 0)")
        state, clean = "SELECT @mine, IS_FREE_LOCK('mine')", (None, 1)
    run(conn, "CREATE TEMPORARY TABLE mine (a integer)")
    run(conn, "BEGIN")
    driver.reset(conn)
    driver.set_autocommit(conn, True)
    assert run(conn, state) == [clean]
    with pytest.raises(driver.error):
        run(conn, "SELECT * FROM mine")
    assert driver.backend_id(conn) == backend
    assert not driver.in_transaction(conn)
    assert run(conn, "SELECT 'ü'") == [("ü",)]
    driver.close(conn)


def test_reset_and_check_as_often_as_you_like(target: Target) -> None:
    conn = target.connect()
    for number in range(12):
        assert run(conn, "SELECT %s", (str(number),)) == [(str(number),)]
        target.driver.check(conn)
        target.driver.reset(conn)
    target.driver.close(conn)


def test_a_forked_child_forgets_and_the_parent_goes_on(target: Target) -> None:
    driver = target.driver
    conn = target.connect()
    run(conn, "SELECT 1")
    pid = fork()
    if pid == 0:
        try:
            driver.forget(conn)
            driver.forget(conn)
            del conn
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert run(conn, "SELECT 1") == [(1,)]
    assert not driver.is_broken(conn)
    driver.close(conn)


def test_errors_leave_the_connection_usable(target: Target) -> None:
    driver = target.driver
    conn = target.connect()
    for _ in range(3):
        with pytest.raises(driver.error):
            run(conn, "SELECT * FROM nowhere")
        assert not driver.busy(conn)
        assert run(conn, "SELECT 1") == [(1,)]
    assert not driver.is_broken(conn)
    driver.close(conn)


def test_a_large_result_is_complete_and_lets_others_run(target: Target) -> None:
    conn = target.connect()
    turns = 0

    def tick() -> None:
        nonlocal turns
        while True:
            gevent.sleep(0.001)
            turns += 1

    series = "generate_series(1, 100000) AS n(a)" if target.dialect == "postgres" else "seq_1_to_100000 AS n(a)"
    sql = f"SELECT a, 'some text that takes room' FROM {series}"
    if target.dialect == "mysql":
        sql = "SELECT seq AS a, 'some text that takes room' FROM seq_1_to_100000"
    ticker = gevent.spawn(tick)
    for _ in range(10):  # a busy server may be so far ahead that there is next to nothing to wait for
        rows = run(conn, sql)
        assert [row[0] for row in rows] == list(range(1, 100001))
        if turns > 3:
            break
    ticker.kill()
    assert turns > 3, "one that blocks lets nobody run, however often it reads"
    target.driver.close(conn)


def test_a_large_statement_arrives(target: Target) -> None:
    conn = target.connect()
    text = "ä" * 500_000
    assert run(conn, "SELECT %s", (text,)) == [(text,)]
    target.driver.close(conn)


def test_many_connects_at_once(target: Target) -> None:
    connects = [gevent.spawn(target.connect) for _ in range(30)]
    connections = [connect.get() for connect in connects]
    assert target.sessions() == 30
    gevent.joinall([gevent.spawn(target.driver.close, conn) for conn in connections])
    eventually(lambda: target.sessions() == 0, "no session left")


def test_killed_connects_leave_nothing_open(target: Target) -> None:
    target.proxy.latency(30)
    connects = [gevent.spawn(target.connect) for _ in range(10)]
    gevent.sleep(0.05)
    gevent.killall(connects)
    target.proxy.latency(0)
    eventually(lambda: target.proxy.stats()["open"] == 0, "every half-made connection is closed")

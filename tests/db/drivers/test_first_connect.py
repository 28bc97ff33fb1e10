"""The first connects of a process, in an interpreter where nothing has connected yet."""

from __future__ import annotations

import sys

import gevent

from tests.db.drivers.target import Target

FRESH_INTERPRETER = True


def test_no_module_is_left_for_a_native_thread_to_import(target: Target) -> None:
    driver = target.driver
    known = set(sys.modules)
    connections = [job.get() for job in [gevent.spawn(target.connect) for _ in range(20)]]
    conn = connections[0]
    driver.reset(conn)
    conn.cursor().close()
    imported = set(sys.modules) - known
    assert {name for name in imported if not name.startswith("gevent.")} == set()
    for conn in connections:
        driver.close(conn)

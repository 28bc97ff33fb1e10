"""Odd places to run in: as the first process of a container, and under a clock that jumps."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.processes import procfs
from tests.processes.events import eventually
from tests.processes.server import MANAGE, Server

#: As most projects start it.
PROGRAM = MANAGE
DAY, HOUR = 86_400, 3600


def test_the_first_process_of_a_container(server: Server) -> None:
    """Signals reach PID 1 only where it has handlers for them, and every orphan is its child."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    server.start(prefix=["unshare", *user, "--pid", "--fork", "--kill-child"], log_level="debug")
    (arbiter,) = procfs.children(server.pid)
    assert server.wait_for("arbiter_started")["pid"] == 1
    for _ in range(3):
        assert server.get("/drill/orphan").status == 200
    server.wait_for("orphan_reaped", count=3, status=3)
    eventually(lambda: not [pid for pid in procfs.children(arbiter) if procfs.state(pid) == "Z"], "no zombie is left")
    mark = server.kill(arbiter, signal.SIGHUP)
    server.wait_for("reload_done", since=mark)
    assert server.get("/raw").status == 200
    server.kill(arbiter, signal.SIGTERM)
    assert server.wait() == 0


@pytest.fixture
def clock(scratch: Path) -> Clock:
    return Clock(scratch)


class Clock:
    """The wall clock of a server that has ``environ``."""

    def __init__(self, folder: Path) -> None:
        library, self._offset = folder / "clock.so", folder / "clock"
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source], check=True, timeout=60)
        self._offset.write_bytes(struct.pack("l", 0))
        self.environ = {"LD_PRELOAD": str(library), "SHOP_TEST_CLOCK": str(self._offset)}

    def set_off(self, seconds: int) -> None:
        """From now on it is wrong by so much; the server has the file mapped."""
        with self._offset.open("r+b") as file:
            file.write(struct.pack("l", seconds))


@pytest.mark.slow
def test_a_clock_that_jumps(server: Server, clock: Clock) -> None:
    """Nobody is taken for dead or for slow, in whichever direction; and the Date is the new one."""
    server.start(environ=clock.environ, timeout=2, keep_alive=60, header_timeout=60)
    kept = server.raw()
    kept.get("/raw")
    assert kept.answer().status == 200
    workers = server.ready()
    with server.load(clients=2) as load:
        for offset in (DAY, -HOUR, 0):
            (slow,) = server.running("/debug/sleep?s=4")
            clock.set_off(offset)
            eventually(
                lambda offset=offset: abs(date_of(server) - time.time() - offset) < 60, f"a Date {offset} s away"
            )
            assert slow.answer().status == 200
            kept.get("/raw")
            assert kept.answer().status == 200
            load.wait_for_answers()
    load.assert_nothing_lost()
    assert server.ready() == workers
    assert server.stop() == 0
    assert not server.events("worker_killed")


def date_of(server: Server) -> float:
    return parsedate_to_datetime(server.get("/raw").headers["date"]).timestamp()

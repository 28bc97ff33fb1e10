"""What systemd hears of a reload that fails, in a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from djworker.arbiter.fleet import Fleet
from djworker.arbiter.probing import Failure
from djworker.arbiter.reporting import Reporter
from djworker.arbiter.rollout import Rollout
from djworker.arbiter.systemd import Systemd
from tests.unit.arbiter.story import POLICY


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """The end that systemd has."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def heard(listener: socket.socket) -> list[str]:
    said = []
    try:
        while True:
            said.append(listener.recv(65536).decode())
    except BlockingIOError:
        return said


def test_the_status_says_what_became_of_the_last_reload(listener: socket.socket) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": listener.getsockname()}, os.getpid())
    systemd.ready = True
    fleet = Fleet(POLICY)
    fleet.current = 1
    reporter, rollout = Reporter(fleet, systemd), Rollout()
    reporter.announce(rollout.begin(2))
    assert heard(listener)[0].startswith("RELOADING=1\n")
    (failed,) = rollout.fail(2, 1, Failure("probe", "GET /", "500: no\nMAINPID=1\nsuch luck"))
    reporter.announce(failed)
    status, ready = heard(listener)
    assert status.startswith(
        "STATUS=reload failed: 500: no MAINPID=1 such luck (probe, GET /), generation 1 serves on;"
    )
    assert "\n" not in status, "what the project says is no word to systemd"
    assert ready == "READY=1"
    reporter.report(lambda _worker: 0.0)
    assert heard(listener) == [], "it stays until a reload makes it good"
    reporter.announce(rollout.begin(3))
    reporter.announce(rollout.finish(3))
    assert [line for line in heard(listener) if line.startswith("STATUS=")] == [
        "STATUS=0 of 2 workers ready, generation 1"
    ]

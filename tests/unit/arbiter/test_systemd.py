"""sd_notify(3): one datagram for each thing that is true."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from djworker.arbiter.systemd import Systemd

PID = 1000


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "n"))
        sock.settimeout(5)
        yield sock


def heard(supervisor: socket.socket) -> list[str]:
    supervisor.setblocking(False)
    said = []
    while True:
        try:
            said.append(supervisor.recv(4096).decode())
        except BlockingIOError:
            return said


def test_systemd_hears_of_a_whole_life(supervisor: socket.socket) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": supervisor.getsockname()}, PID)
    systemd.tell_reloading()
    assert heard(supervisor) == [], "who is not ready does not reload"
    systemd.tell_ready()
    systemd.tell_reloading()
    systemd.tell_ready()
    systemd.tell_stopping()
    ready, reloading, again, stopping = heard(supervisor)
    assert (ready, again, stopping) == ("READY=1", "READY=1", "STOPPING=1")
    kind, _, rest = reloading.partition("\n")
    assert kind == "RELOADING=1"
    assert int(rest.removeprefix("MONOTONIC_USEC=")) > 0
    assert not systemd.ready


def test_status_is_told_when_it_changes(supervisor: socket.socket) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": supervisor.getsockname()}, PID)
    for text in ("1 of 2", "1 of 2", "2 of 2"):
        systemd.tell_status(text)
    assert heard(supervisor) == ["STATUS=1 of 2", "STATUS=2 of 2"]


def test_watchdog_at_half_its_time(supervisor: socket.socket) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": supervisor.getsockname(), "WATCHDOG_USEC": "10000000"}, PID)
    for now in (100.0, 101.0, 104.9, 105.0, 106.0):
        systemd.keep_alive(now, now)
    assert heard(supervisor) == ["WATCHDOG=1", "WATCHDOG=1"]
    assert systemd.next_ping() == 110.0


def test_the_watchdog_is_not_petted_while_no_hub_turns(supervisor: socket.socket) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": supervisor.getsockname(), "WATCHDOG_USEC": "10000000"}, PID)
    systemd.keep_alive(100.0, beat=99.9)
    for now in (105.0, 105.5, 110.0):
        systemd.keep_alive(now, beat=99.9)
    assert heard(supervisor) == ["WATCHDOG=1"], "only at 100 the beat is young enough"
    assert 110.0 < systemd.next_ping() < 115.0, "it looks again before the next ping would be due"
    systemd.keep_alive(systemd.next_ping(), beat=110.4)
    assert heard(supervisor) == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    "environ", [{}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(PID + 1)}]
)
def test_no_watchdog_is_no_ping(environ: dict[str, str]) -> None:
    systemd = Systemd(environ, PID)
    systemd.keep_alive(1.0, 1.0)
    assert systemd.next_ping() == inf


def test_watchdog_for_us() -> None:
    assert Systemd({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(PID)}, PID).next_ping() == -inf


@pytest.mark.parametrize("path", ["", "/nowhere/at/all", "@djworker-nobody-listens-here"])
def test_a_socket_that_is_gone_harms_nothing(path: str) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": path}, PID)
    systemd.tell_ready()
    systemd.tell_status("fine")
    assert systemd.ready


def test_a_supervisor_that_reads_nothing_does_not_hold_up_the_arbiter(supervisor: socket.socket) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": supervisor.getsockname()}, PID)
    for number in range(2000):
        systemd.tell_status(f"{number} of 2000")
    assert 0 < len(heard(supervisor)) < 2000, "more than the kernel keeps"
    systemd.tell_ready()
    assert heard(supervisor) == ["READY=1"]


def test_an_abstract_socket_is_told_too() -> None:
    name = f"djworker-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        Systemd({"NOTIFY_SOCKET": f"@{name}"}, PID).tell_ready()
        assert heard(sock) == ["READY=1"]

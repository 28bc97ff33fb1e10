"""What systemd does to a service beside reading its words: it keeps sockets over restarts, and ends whole groups."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.processes import procfs
from tests.processes.events import eventually
from tests.processes.http import Address, Background, request
from tests.processes.server import MANAGE, MODULE, Server
from tests.processes.test_listening import Systemd, systemd

__all__ = ["systemd"]

#: As most projects start it.
PROGRAM = MANAGE


@pytest.fixture
def unit_socket(scratch: Path) -> Iterator[socket.socket]:
    """``ListenStream=/run/shop.sock``."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{scratch}/shop.sock")
        listener.listen(16)
        yield listener


def test_clients_wait_in_the_units_socket_while_the_service_restarts(
    make_server: Callable[[], Server], unit_socket: socket.socket
) -> None:
    address = Address(f"unix:{unit_socket.getsockname()}")
    first, second = make_server(), make_server()
    first.start("testproject.wsgi", program=MODULE, inherit=[unit_socket], environ={"LISTEN_FDS": "1"}, workers=1)
    assert not first.events("config_warning"), (
        "the sockets are for this process, though a child of it reads the settings"
    )
    assert request(address, "/hello").status == 200
    assert first.stop() == 0
    waiting = [Background(address, "/hello") for _ in range(4)]
    second.launch(inherit=[unit_socket], environ={"LISTEN_FDS": "1"}, workers=1)
    assert [each.answer().status for each in waiting] == [200] * 4
    assert second.stop() == 0


def test_a_new_arbiter_in_place_keeps_what_systemd_gave(
    server: Server, systemd: Systemd, scratch: Path, unit_socket: socket.socket
) -> None:
    address = Address(f"unix:{unit_socket.getsockname()}")
    told = {"NOTIFY_SOCKET": f"{scratch}/notify", "WATCHDOG_USEC": "400000", "LISTEN_FDS": "1"}
    server.start(inherit=[unit_socket], environ=told, workers=1)
    systemd.wait_for("READY=1")
    mark = server.send(signal.SIGUSR2)
    server.wait_for("arbiter_started", since=mark)
    systemd.rest()
    systemd.wait_for("WATCHDOG=1")
    assert request(address, "/hello").status == 200
    server.hup()
    systemd.wait_for("RELOADING=1")
    systemd.wait_for("READY=1")
    assert request(address, "/hello").status == 200
    assert server.stop() == 0
    assert "STOPPING=1" in systemd.rest()


@pytest.mark.parametrize("arbiter_hears", ["first", "last"])
def test_term_to_every_process_of_the_unit_is_one_stop(server: Server, arbiter_hears: str) -> None:
    """KillMode=control-group, a unit's default: processes are told one after the other, and the arbiter may hear it late."""
    # A child of the mold that asks for pages would be one more, and its end a warning.
    server.start(status_bind="127.0.0.1:0", probe="off", check_migrations="off")
    requests = server.running("/debug/sleep?s=0.5", count=4)
    mark = server.log.mark()
    everybody = eventually(lambda: len(tree := server.tree()) == 5 and tree, "arbiter, mold, workers, status process")
    others = [pid for pid in everybody if pid != server.pid]
    with server.suspended(*([server.pid] if arbiter_hears == "last" else [])):
        if arbiter_hears == "first":
            server.term()
        for pid in others:
            with suppress(ProcessLookupError):  # the arbiter may have ended its mold by now
                os.kill(pid, signal.SIGTERM)
        if arbiter_hears == "last":
            eventually(lambda: not procfs.alive(server.mold()), "the mold is gone")
            server.term()
    assert [request.answer().status for request in requests] == [200] * 4
    assert server.wait() == 0
    assert not server.events("worker_spawned", since=mark)
    assert not server.events("worker_gone", since=mark, status=lambda status: status != 0)
    assert not [event for event in server.log.all(mark) if event.get("level") in ("warning", "error", "critical")]

"""The shop behind the server keeps its connections to the supplier, and no two workers talk over the same one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import psutil
import pytest

from tests.processes.control import ask
from tests.processes.events import eventually
from tests.processes.project import Project
from tests.processes.server import Server


class Supplier(NamedTuple):
    """Where he listens, and who he is."""

    url: str
    pid: int


@pytest.fixture
def supplier(project: Project) -> Iterator[Supplier]:
    """A supplier of one's own."""
    command = [sys.executable, "manage.py", "slowservice", "0"]
    with subprocess.Popen(command, cwd=project.folder, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        yield Supplier(service.stdout.readline().split()[-1], service.pid)
        service.terminate()


def connections(pid: int, supplier: Supplier) -> set[int]:
    """The ports from which this process is connected to him."""
    found = psutil.Process(pid).net_connections("tcp")
    return {one.laddr.port for one in found if len(one.raddr) and supplier.url.endswith(f":{one.raddr.port}/")}


def test_what_a_warm_up_opened_is_used_by_no_worker(server: Server, supplier: Supplier) -> None:
    server.start(workers=2, warm_up=["/wait?ms=0"], environ={"SLOW_SERVICE_URL": supplier.url})
    _ask_at_once(server, supplier)
    first, second = (connections(server.worker(slot), supplier) for slot in (0, 1))
    assert connections(server.mold(), supplier) == first & second == set()
    assert len(first | second) == 8


def test_a_worker_keeps_its_connections(server: Server, supplier: Supplier) -> None:
    server.start(workers=1, environ={"SLOW_SERVICE_URL": supplier.url})
    assert connections(server.mold(), supplier) == set()
    _ask_at_once(server, supplier)
    kept = connections(server.worker(), supplier)
    assert len(kept) == 8
    _ask_at_once(server, supplier)
    assert connections(server.worker(), supplier) == kept


def _ask_at_once(server: Server, supplier: Supplier) -> None:
    """Ask so that all are under way together: the supplier stands still until each has a connection."""
    os.kill(supplier.pid, signal.SIGSTOP)
    try:
        requests = [server.in_background("/wait?ms=0") for _ in range(8)]
        eventually(lambda: len(ask(server, "requests")["requests"]) == 8, "all run")
        eventually(lambda: sum(len(connections(pid, supplier)) for pid in server.ready()) == 8, "each has its own")
    finally:
        os.kill(supplier.pid, signal.SIGCONT)
    assert [request.answer().status for request in requests] == [200] * 8

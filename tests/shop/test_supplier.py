"""The shop behind the server keeps its connections to the supplier, and no two workers talk over the same one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from tests.processes.project import Project
from tests.processes.server import Server


@pytest.fixture
def supplier(project: Project) -> Iterator[str]:
    """Where he listens."""
    command = [sys.executable, "manage.py", "slowservice", "0"]
    with subprocess.Popen(command, cwd=project.folder, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        yield service.stdout.readline().split()[-1]
        service.terminate()


def connections(pid: int, supplier: str) -> set[int]:
    """The ports from which this process is connected to him."""
    found = psutil.Process(pid).net_connections("tcp")
    return {one.laddr.port for one in found if one.raddr and supplier.endswith(f":{one.raddr.port}/")}


def test_what_a_warm_up_opened_is_used_by_no_worker(server: Server, supplier: str) -> None:
    server.start(workers=2, warm_up=["/wait?ms=0"], environ={"SLOW_SERVICE_URL": supplier})
    _ask_at_once(server)
    first, second = (connections(server.worker(slot), supplier) for slot in (0, 1))
    assert connections(server.mold(), supplier) == first & second == set()
    assert len(first | second) == 8


def test_a_worker_keeps_its_connections(server: Server, supplier: str) -> None:
    server.start(workers=1, environ={"SLOW_SERVICE_URL": supplier})
    assert connections(server.mold(), supplier) == set()
    _ask_at_once(server)
    kept = connections(server.worker(), supplier)
    assert len(kept) == 8
    _ask_at_once(server)
    assert connections(server.worker(), supplier) == kept


def _ask_at_once(server: Server) -> None:
    """Ask so that all are under way together."""
    requests = [server.in_background("/wait?ms=1000") for _ in range(8)]
    assert [request.answer().status for request in requests] == [200] * 8

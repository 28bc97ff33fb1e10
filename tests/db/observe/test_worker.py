"""A real worker looks after its pools at each beat: the log, and the scoreboard as the arbiter reads it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from djworker.ipc.scoreboard import Gauge, Row
from tests.db.servers import PostgresServer
from tests.processes import procfs
from tests.processes.events import eventually
from tests.processes.project import URLS, Project
from tests.processes.server import Server

VIEW = """
import os, time
from django.db import connection, transaction
from django.http import HttpResponse

def hold(request, number):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        while not os.path.exists(request.GET["until"]):
            time.sleep(0.01)
    return HttpResponse("done")

urlpatterns += [path("hold/<int:number>/", hold, name="hold")]
"""


@contextmanager
def row_of(server: Server) -> Iterator[Row]:
    """The only worker's row, as the arbiter has it."""
    numbers = [fd for fd, what in procfs.descriptors(server.pid).items() if "djworker-scoreboard" in what]
    row = Row(os.open(f"/proc/{server.pid}/fd/{numbers[0]}", os.O_RDWR))
    try:
        yield row
    finally:
        row.close()


def test_gauges_and_an_idle_transaction(
    server: Server, project: Project, postgres: PostgresServer, postgres_db: str
) -> None:
    project.append(URLS, VIEW)
    project.settings(POOL={"max_size": 4, "idle_in_transaction": 0.2, "long_hold": 0.2})
    server.start(workers=1, environ={"DATABASE_URL": postgres.url(postgres_db)})
    until = server.scratch / "go-on"
    with row_of(server) as row:
        slow = server.in_background(f"/hold/7/?until={until}")
        told = [server.wait_for("idle_in_transaction"), server.wait_for("long_hold")]
        assert {event["view"] for event in told} == {"hold"}
        assert all(" in hold" in event["stack"] for event in told)
        assert "GET /hold/7/ (hold)" in told[0]["message"]
        eventually(lambda: (row[Gauge.POOL_SIZE], row[Gauge.POOL_AVAILABLE]) == (1, 0), "the gauges show the holder")
        assert row[Gauge.POOL_MAX] == 4
        assert row[Gauge.POOL_WAITING] == 0
        until.touch()
        assert slow.answer().status == 200
        eventually(lambda: row[Gauge.POOL_AVAILABLE] == 1, "it came back")

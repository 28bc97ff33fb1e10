"""What `/metrics` tells of the pools, by alias, and what `/readyz` makes of an outage."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.db.proxy import TCPProxy
from tests.db.servers import DatabaseServer, PostgresServer
from tests.processes.events import eventually
from tests.processes.http import request
from tests.processes.project import URLS, Project
from tests.processes.server import Server
from tests.processes.test_metrics import samples, status_address, total

VIEWS = """
import os, time
from django.db import connection, transaction
from django.http import JsonResponse

def pinned(request):
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION statement_timeout = '30s'")
        cursor.execute("LISTEN news")
        while "until" in request.GET and not os.path.exists(request.GET["until"]):
            time.sleep(0.01)
    return JsonResponse({})

def kept(request):
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION statement_timeout = '30s'")
        time.sleep(0.3)
        cursor.execute("SHOW statement_timeout")
        return JsonResponse({"timeout": cursor.fetchone()[0]})

urlpatterns += [path("pinned", pinned), path("kept", kept)]
"""


def test_pools_are_told_by_alias_over_the_life_of_their_workers(
    server: Server, project: Project, postgres: PostgresServer, postgres_db: str
) -> None:
    project.append(URLS, VIEWS)
    project.settings(POOL={"max_size": 2})
    server.start(workers=1, status_bind="127.0.0.1:0", environ={"DATABASE_URL": postgres.url(postgres_db)})
    until = server.scratch / "go-on"
    waiting = [server.in_background(f"/pinned?until={until}") for _ in range(3)]

    def gauges() -> list[float]:
        told = samples(server)
        return [total(told, f"djworker_pool_{name}", alias="default") for name in ("waiting", "leased", "size", "max")]

    eventually(lambda: gauges() == [1, 2, 2, 2], "two hold what there is, and one waits")
    time.sleep(0.6)  # not for something to happen, but for the wait to be a long one
    until.touch()
    for item in waiting:
        assert item.answer().status == 200

    def settled() -> bool:
        return total(samples(server), "djworker_pool_pins_total", alias="default") >= 3

    eventually(settled, "pins are counted")
    before = samples(server)
    assert total(before, "djworker_pool_acquires_total", alias="default") >= 3
    wait, pins = "djworker_pool_wait_seconds", "djworker_pool_pins_total"

    def all_waits_are_told() -> bool:
        now = samples(server)
        return total(now, f"{wait}_count") == total(now, "djworker_pool_acquires_total")

    eventually(all_waits_are_told, "all waits")
    assert total(samples(server), f"{wait}_bucket", alias="default", le="0.5") < total(samples(server), f"{wait}_count")
    assert total(before, "djworker_pool_connects_total", alias="default") >= 2
    killed = server.kill(server.worker())
    server.wait_for("worker_ready", since=killed)
    server.get("/pinned")
    eventually(lambda: total(samples(server), pins) > total(before, pins), "it goes on")
    after = samples(server)
    for (name, labels), value in before.items():
        if name.startswith("djworker_pool_") and name.endswith(("_total", "_bucket", "_sum", "_count")):
            assert after[name, labels] >= value


def test_waits_that_end_without_a_connection_and_settings_that_move_are_counted(
    server: Server, project: Project, scratch: Path, postgres: PostgresServer, postgres_db: str
) -> None:
    server.tracebacks_expected = True
    project.append(URLS, VIEWS)
    project.settings(POOL={"max_size": 1, "max_waiting": 1, "timeout": 0.5})
    server.start(workers=1, probe="off", status_bind="127.0.0.1:0", environ={"DATABASE_URL": postgres.url(postgres_db)})

    def moved() -> bool:
        both = [server.in_background("/kept") for _ in range(2)]
        assert [each.answer().json() for each in both] == [{"timeout": "30s"}] * 2
        return total(samples(server), "djworker_pool_replays_total") >= 1

    eventually(moved, "settings are made again where two requests take turns with one connection")
    release = scratch / "release"
    holding = server.in_background(f"/pinned?until={release}")
    eventually(lambda: total(samples(server), "djworker_pool_leased") == 1, "the connection is lent")

    def counted() -> bool:
        """One waits until its time is over. Another one that comes meanwhile is refused."""
        assert {each.answer().status for each in [server.in_background("/pinned") for _ in range(3)]} == {500}
        told = samples(server)
        return all(total(told, f"djworker_pool_{name}_total") >= 1 for name in ("timeouts", "refused"))

    eventually(counted, "a time-out and a refusal")
    release.touch()
    assert holding.answer().status == 200


def test_an_outage_takes_readiness_away_and_its_end_gives_it_back_without_a_request(
    server: Server,
    project: Project,
    postgres: PostgresServer,
    postgres_db: str,
    proxy: Callable[[DatabaseServer], TCPProxy],
) -> None:
    """A balancer sends nothing while the answer is 503, so nobody but the worker itself would find the server again."""
    server.tracebacks_expected = True
    project.append(URLS, VIEWS)
    door = proxy(postgres)
    url = postgres.url(postgres_db, host=door.host, port=door.port)
    server.start(workers=1, status_bind="127.0.0.1:0", environ={"DATABASE_URL": url})
    status = status_address(server)
    assert server.get("/pinned").status == 200
    eventually(lambda: request(status, "/readyz").status == 200, "it is ready")
    door.stop()

    def is_out() -> bool:
        server.get("/pinned")
        return request(status, "/readyz").status == 503

    eventually(is_out, "it is not ready")
    answer = request(status, "/readyz")
    assert (answer.status, answer.body) == (503, b"no connection to default\n")
    assert request(status, "/readyz?db=0").status == request(status, "/livez").status == 200
    eventually(lambda: total(samples(server), "djworker_pool_outages_total", alias="default") == 1, "it is counted")

    def failures_are_told() -> bool:
        server.get("/pinned")
        told = samples(server)
        return all(total(told, f"djworker_pool_{name}_total") >= 1 for name in ("unavailable", "connect_errors"))

    eventually(failures_are_told, "requests that fail at once, and attempts to connect that do")
    assert total(samples(server), "djworker_pool_outage", alias="default") == 1
    door.start()
    server.wait_for("pool_recovered")
    eventually(lambda: request(status, "/readyz").status == 200, "it is ready again")


def test_connections_that_were_found_dead_are_counted(
    server: Server, project: Project, postgres: PostgresServer, postgres_db: str
) -> None:
    """A server that was restarted, or an operator, has ended them while they were idle: no request notices."""
    project.append(URLS, VIEWS)
    server.start(workers=1, probe="off", status_bind="127.0.0.1:0", environ={"DATABASE_URL": postgres.url(postgres_db)})
    assert server.get("/pinned").status == 200
    eventually(lambda: total(samples(server), "djworker_pool_idle", alias="default") == 1, "it is idle")
    for lost in (1, 2):
        eventually(lambda: postgres.terminate_backends(postgres_db), "there is one to be ended")
        eventually(lambda: not postgres.connections(postgres_db), "it has ended")
        assert server.get("/pinned").status == 200

        def is_told(wanted: int = lost) -> bool:
            return total(samples(server), "djworker_pool_lost_total", alias="default") >= wanted

        eventually(is_told, "it is counted")

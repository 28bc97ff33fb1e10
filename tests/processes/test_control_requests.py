"""``requests``, ``trace``, ``pool`` and ``kill``: what workers are doing, also those whose hub is blocked or that are stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.db.fixtures import postgres, postgres_db
from tests.db.servers import PostgresServer
from tests.processes.control import ask, ctl
from tests.processes.events import eventually
from tests.processes.project import URLS, copy_template
from tests.processes.server import Server

__all__ = ["postgres", "postgres_db"]

#: A pool of one connection, and views that hold it, wait for it, and block their worker.
VIEWS = """
import gevent, hashlib, os
from django.db import connection, transaction
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

def query(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(60), 'a statement'")
    return HttpResponse("done")

def holds(request):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        gevent.sleep(60)
    return HttpResponse("done")

def pins(request):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE mine (n int)")
        gevent.sleep(60)
    return HttpResponse("done")

def short(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("done")

def sleeps(request):
    helper = gevent.spawn(gevent.sleep, 60)
    helper.join()
    return HttpResponse("done")

@csrf_exempt
def body(request):
    return HttpResponse(request.read())

def endless(request):
    def blocks():
        while True:
            yield b"x" * 65536
    from django.http import StreamingHttpResponse
    return StreamingHttpResponse(blocks())

def spins(request):
    while not os.path.exists(request.GET["until"]):
        hashlib.sha256(b"x" * 1000).digest()
    return HttpResponse("done")

def blocks(request):
    while not os.path.exists(request.GET["until"]):
        gevent.monkey.get_original("time", "sleep")(0.1)
    return HttpResponse("done")

urlpatterns += [path(f"{view.__name__}/", view, name=f"drill-{view.__name__}")
    for view in (query, holds, pins, short, sleeps, body, endless, spins, blocks)]
"""


@contextmanager
def drilled(template: Path, folder: Path, postgres: PostgresServer, *, workers: int) -> Iterator[Server]:
    """A tree with these views, each worker of which has one database connection."""
    project = copy_template(template, folder / "shop")
    project.append(URLS, VIEWS)
    project.settings(POOL={"max_size": 1, "timeout": 60})
    server = Server(project, folder)
    try:
        server.start(workers=workers, timeout=60, probe="off", environ={"DATABASE_URL": postgres.url("postgres")})
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def shared(template: Path, tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Server]:
    """One tree with one worker for all tests: each ends what it began."""
    with drilled(template, tmp_path_factory.mktemp("requests"), postgres, workers=1) as server:
        yield server
        server.interrupt()
        server.wait()


def requests_of(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(server, "requests")["requests"]
    return found


def one(server: Server, path: str, **wanted: object) -> dict[str, Any]:
    """The request of this path, once it is as wanted."""

    def look() -> dict[str, Any] | None:
        fits = [
            item
            for item in requests_of(server)
            if item["path"] == path and all(item[name] == value for name, value in wanted.items())
        ]
        return fits[0] if fits else None

    found: dict[str, Any] = eventually(look, f"{path} is seen with {wanted}")
    return found


def end(server: Server, *paths: str) -> None:
    """Kill what was begun, and wait until it is gone."""
    for path in paths:
        for item in [item for item in requests_of(server) if item["path"] == path]:
            ask(server, "kill", request=item["id"])
    eventually(lambda: not [item for item in requests_of(server) if item["path"] in paths], "they are gone")


def test_requests_show_what_each_does(shared: Server) -> None:
    """In SQL, and waiting for the only connection; with view, client and request id."""
    shared.in_background("/query/", headers={"X-Request-ID": "abc-1"})
    first = one(shared, "/query/", phase="in SQL")
    assert first["sql"] == "SELECT pg_sleep(60), 'a statement'"
    assert (first["view"], first["alias"], first["method"]) == ("drill-query", "default", "GET")
    assert (first["client"], first["request_id"]) == ("127.0.0.1", "abc-1")
    shared.in_background("/short/")
    second = one(shared, "/short/", phase="waiting for a connection")
    assert (second["view"], second["sql"]) == ("drill-short", "SELECT 1")
    pools = ask(shared, "pool")["pools"]
    [pool] = [pool for pool in pools if pool["alias"] == "default"]
    assert (pool["size"], pool["leased"], pool["waiting"], pool["bound"]) == (1, 1, 1, 1)
    assert [holder["view"] for holder in pool["holders"]] == ["drill-query"]
    text = ctl(shared, "requests").out
    assert "waiting for a connection" in text
    assert "default: SELECT pg_sleep(60), 'a statement'" in text
    assert "by GET /query/ (drill-query)" in ctl(shared, "pool").out
    end(shared, "/query/")
    eventually(
        lambda: "/short/" not in {item["path"] for item in requests_of(shared)}, "the one that waited was served"
    )


def test_a_killed_request_gives_its_connection_back(shared: Server) -> None:
    """The client gets 503, the statement is cancelled in the server, and the next request is served."""
    killed = shared.in_background("/query/", headers={"X-Request-ID": "to-be-ended"})
    one(shared, "/query/", phase="in SQL")
    mark = shared.log.mark()
    ended = ctl(shared, "kill", "to-be-ended")
    assert ended.code == 0, ended
    assert ended.out.startswith("ended GET /query/ in slot ")
    assert killed.answer().status == 503
    assert shared.wait_for("request_killed", since=mark)["sql"].startswith("SELECT pg_sleep(60)")
    assert shared.get("/short/").status == 200
    assert shared.get("/db").status in {200, 500}
    gone = ctl(shared, "kill", "to-be-ended")
    assert (gone.code, gone.err) == (1, "no request in flight has this id\n")


def test_an_open_transaction_is_rolled_back_by_a_kill(shared: Server) -> None:
    shared.in_background("/holds/")
    found = one(shared, "/holds/", phase="running")
    assert found["view"] == "drill-holds"
    assert ask(shared, "kill", request=found["id"])["killed"]
    assert shared.get("/short/").status == 200


def test_bodies_and_slow_readers_are_told_apart(shared: Server) -> None:
    with socket.create_connection((shared.address.host, shared.address.port)) as uploading:
        uploading.sendall(b"POST /body/ HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\nhalf")
        one(shared, "/body/", phase="reading body", method="POST")
    with socket.create_connection((shared.address.host, shared.address.port)) as reading:
        reading.sendall(b"GET /endless/ HTTP/1.1\r\nHost: x\r\n\r\n")
        one(shared, "/endless/", phase="writing")
    eventually(lambda: not requests_of(shared), "both are gone with their clients")


def test_stacks_are_grouped_by_request(shared: Server) -> None:
    shared.in_background("/sleeps/")
    found = one(shared, "/sleeps/")
    [worker] = ask(shared, "trace", slot=found["slot"])["workers"]
    [group] = [group for group in worker["groups"] if group["request"]["path"] == "/sleeps/"]
    assert len(group["stacks"]) == 2, "the view's own, and that of the greenlet that it spawned"
    assert "in sleeps" in group["stacks"][0]
    assert worker["others"]
    text = ctl(shared, "trace")
    assert "-- GET /sleeps/ (drill-sleeps)" in text.out
    end(shared, "/sleeps/")


def test_pins_are_counted_by_reason(shared: Server) -> None:
    shared.in_background("/pins/")
    one(shared, "/pins/", phase="running")
    pools = ask(shared, "pool")["pools"]
    assert any("temp" in reason.lower() for pool in pools for reason in pool["pins"]), pools
    end(shared, "/pins/")


@pytest.mark.parametrize("view", ["spins", "blocks"])
def test_a_blocked_hub_is_answered_for_by_a_thread(shared: Server, view: str) -> None:
    """Within 2 s: which request blocks it, where, and that nothing can be ended there."""
    waiting = shared.in_background("/sleeps/")
    one(shared, "/sleeps/")
    with shared.held(f"/{view}/") as [blocking]:
        [found] = eventually(lambda: [item for item in requests_of(shared) if item["blocks_hub"]], "it blocks")
        assert found["view"] == f"drill-{view}"
        [worker] = ask(shared, "requests")["workers"]
        assert (worker["answered"], worker["by"]) == (True, "thread")
        [worker] = ask(shared, "trace")["workers"]
        assert f"in {view}" in worker["main"]
        assert {group["request"]["path"] for group in worker["groups"]} == {"/sleeps/", found["path"]}
        assert ask(shared, "pool")["workers"][0]["by"] == "thread"
        assert "the hub of its worker is blocked" in ask(shared, "kill", request=found["id"])["refused"]
        assert "its hub is blocked for" in ctl(shared, "requests").out
    assert blocking.answer().status == 200, "what the thread has taken was not lost, nor done twice"
    end(shared, "/sleeps/")
    assert waiting.answer().status == 503


def test_a_stopped_worker_is_said_not_to_answer(shared: Server) -> None:
    [pid] = shared.ready()
    with shared.suspended(pid):
        for verb in ("requests", "trace", "pool"):
            ended = ctl(shared, verb)
            assert ended.code == 0
            assert "it does not answer: it is stopped (SIGSTOP)" in ended.out
        assert ctl(shared, "status").code == 0
        assert ctl(shared, "kill", "x").err.startswith("no request in flight has this id; not known: slot ")
    eventually(lambda: ask(shared, "requests")["workers"][0]["by"] == "hub", "it answers again")


def test_orders_that_a_thread_has_taken_are_carried_out(make_server: Callable[[], Server]) -> None:
    """A worker is retired while its hub is blocked, and asked meanwhile: it leaves as it was told, and is not killed."""
    server = make_server()
    server.project.append(URLS, VIEWS)
    server.start(workers=1, timeout=60, graceful_timeout=40)
    with server.held("/spins/") as [blocking]:
        eventually(lambda: [item for item in requests_of(server) if item["blocks_hub"]], "it blocks")
        server.term()
        server.wait_for("worker_retired")
        assert ask(server, "requests")["workers"][0]["by"] == "thread"
    assert blocking.answer().status == 200
    assert server.wait_for("worker_gone")["status"] == 0
    assert server.wait() == 0


def test_verbs_answer_during_a_rollout(make_server: Callable[[], Server]) -> None:
    server = make_server().start(workers=2)
    mark = server.hup()
    server.wait_for("mold_booting", since=mark)
    while not server.events("reload_done", since=mark):
        for verb in ("requests", "status", "pool"):
            assert ask(server, verb)["workers"]


def test_requests_wait_through_a_pause(shared: Server, postgres: PostgresServer) -> None:
    """As during a fail-over: the sessions are gone, requests wait, and go on with new ones."""
    assert shared.get("/short/").status == 200
    ended = ctl(shared, "pause", "default", "--timeout", "60")
    assert ended.code == 0, ended
    assert ended.out.startswith("done in 1 of 1 workers; 0 connections are lent")
    waiting = [shared.in_background("/short/") for _ in range(3)]
    one(shared, "/short/", phase="waiting for a connection")
    [pool] = [pool for pool in ask(shared, "pool")["pools"] if pool["alias"] == "default"]
    assert (pool["size"], pool["paused"] > 0) == (0, True)
    assert ask(shared, "status")["paused"][0]["alias"] == "default"
    mark = shared.log.mark()
    assert ctl(shared, "recycle").code == 0  # a worker that comes meanwhile waits as well
    new = shared.wait_for("worker_ready", since=mark)["pid"]
    shared.wait_for("worker_retired", since=mark)
    # The old one may take a connection yet in its last moment.
    eventually(lambda: {shared.get("/debug/pid").json()["pid"] for _ in range(3)} == {new}, "the new worker answers")
    late = shared.in_background("/short/")
    one(shared, "/short/", phase="waiting for a connection", pid=new)
    resumed = ctl(shared, "resume", "default")
    assert resumed.code == 0, resumed
    assert [request.answer().status for request in (*waiting, late)] == [200] * 4
    assert ask(shared, "status")["paused"] == []


def test_a_pause_that_is_forgotten_ends_by_itself(shared: Server) -> None:
    assert ctl(shared, "pause", "default", "--timeout", "1").code == 0
    assert shared.get("/short/").status == 200


def test_a_database_that_cannot_be_paused_is_named(shared: Server, make_server: Callable[[], Server]) -> None:
    ended = ctl(shared, "pause", "other")
    assert (ended.code, ended.err) == (1, "no database 'other'; there are: default\n")
    sqlite = make_server().start(workers=1)
    refused = ctl(sqlite, "pause", "default")
    assert refused.code == 1
    assert "has no pool (SQLite)" in refused.err
    assert ctl(sqlite, "pool").out == "no pools: these databases have none: 'default' (django.db.backends.sqlite3)\n"

"""``hub_stalled``: what has blocked the hub, in Django's terms: request, view, statement and line."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.db.fixtures import postgres, postgres_db
from tests.db.servers import PostgresServer
from tests.processes import procfs
from tests.processes.control import ask, ctl
from tests.processes.events import Event, eventually
from tests.processes.project import URLS, Project, copy_template
from tests.processes.server import Server

__all__ = ["postgres", "postgres_db"]

#: Ways to block: a wait in C without the GIL, work in C without it, work and a wait that keep it, and Python itself.
VIEWS = """
import ctypes, hashlib, json, os, re, signal, time
import gevent
from gevent import monkey
from asgiref.sync import sync_to_async
from django.db import connection
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

native_sleep = monkey.get_original("time", "sleep")

def until(seconds, work):
    end = time.thread_time() + seconds  # the test's machine may be busy
    while time.thread_time() < end:
        work()

def sleeps(seconds):
    native_sleep(seconds)

def hashes(seconds):
    until(seconds, lambda: hashlib.pbkdf2_hmac("sha256", b"secret", b"salt", 20000))

def matches(seconds):
    length, took = 16, 0
    while took < seconds:
        length += 1
        began = time.thread_time()
        re.match("(a+)+$", "a" * length + "b")
        took = time.thread_time() - began

def dumps(seconds):
    until(seconds, lambda: json.dumps(list(range(300000))))

def keeps_the_lock(seconds):
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))

def loops(seconds):
    until(seconds, lambda: sum(number for number in range(1000)))

# For a test of its own each: a function has one line in ten seconds.
def keeps(seconds):
    native_sleep(seconds)

def rests(seconds):
    native_sleep(seconds)

WAYS = {way.__name__: way for way in (sleeps, hashes, matches, dumps, keeps_the_lock, loops, keeps, rests)}

def block(request):
    return WAYS[request.GET.get("way", "sleeps")](float(request.GET["s"]))

def asks(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::text, 'of the view'", [request.GET["s"]])
    block(request)
    return HttpResponse("done")

def silent(request):
    block(request)
    return HttpResponse("done")

def streams(request):
    def blocks():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 'of the stream'")
        yield b"first"
        block(request)
        yield b"second"
    return StreamingHttpResponse(blocks())

async def awaits(request):
    def ask():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 'of the async view'")
    await sync_to_async(ask)()
    block(request)
    return HttpResponse("done")

def spawns(request):
    gevent.spawn(block, request).join()
    return HttpResponse("done")

def waits(request):
    gevent.sleep(float(request.GET["s"]))
    if "then" in request.GET:
        native_sleep(float(request.GET["then"]))
        return HttpResponse("done")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [float(request.GET["s"])])
    return HttpResponse("done")

def short(request):
    if "s" in request.GET:
        block(request)
    until(0.02, lambda: None)
    return HttpResponse("done")

def late(request):
    gevent.get_hub().loop.run_callback(dumps, float(request.GET["s"]))
    return HttpResponse("done")

def stopped(request):
    os.kill(os.getpid(), signal.SIGSTOP)
    until(0.05, lambda: None)
    return HttpResponse("done")

from djworker.signals import worker_started

def begins(**kwargs):
    native_sleep(0.4)

worker_started.connect(begins, weak=False)
urlpatterns += [path(f"{view.__name__}/", view, name=f"stall-{view.__name__}")
    for view in (asks, silent, streams, awaits, spawns, waits, short, late, stopped)]
"""
THRESHOLD = 0.25


@pytest.fixture(scope="module")
def shared(template: Path, tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Server]:
    """One tree with one worker for all tests."""
    folder = tmp_path_factory.mktemp("stalls")
    project = copy_template(template, folder / "shop")
    project.append(URLS, VIEWS)
    server = Server(project, folder)
    environ = {"DATABASE_URL": postgres.url("postgres")}
    server.start(
        workers=1, timeout=60, probe="off", stall_threshold=THRESHOLD, warm_up="/silent/?s=0.4", environ=environ
    )
    yield server
    server.stop()
    server.close()


def stall(server: Server, path: str, **kwargs: Any) -> Event:
    """Ask for a page that blocks; what is told of it."""
    mark = server.log.mark()
    assert server.get(path, **kwargs).status == 200
    return server.wait_for("hub_stalled", since=mark)


@pytest.mark.parametrize("way", ["sleeps", "hashes", "matches", "dumps", "keeps_the_lock", "loops"])
def test_every_way_to_block_is_found_at_its_line(shared: Server, way: str) -> None:
    """With the GIL and without; the line is that of the project's code, and the stack is of the stall."""
    event = stall(shared, f"/asks/?way={way}&s=0.6&secret=x", headers={"X-Request-ID": f"id-{way}"})
    assert event["seconds"] >= THRESHOLD
    assert (event["method"], event["url"]) == ("GET", f"/asks/?way={way}&s=0.6&secret=x"), event
    assert (event["view"], event["request_id"]) == ("stall-asks", f"id-{way}")
    assert event["sql"] == "SELECT %s::text, 'of the view'"
    assert "urls.py" in event["line"]
    assert event["line"].endswith((f"in {way}", "in <lambda>", "in until", "in <genexpr>"))
    assert f"in {way}" in event["stack"]
    assert " by GET /asks/ (stall-asks), last SQL SELECT %s::text, 'of the view', at " in event["message"]
    assert event["message"].startswith("hub blocked ")
    assert "secret" not in event["message"]


@pytest.mark.parametrize("way", ["matches", "keeps_the_lock"])
def test_c_code_that_keeps_the_lock_never_goes_unseen(shared: Server, way: str) -> None:
    """At whatever moment of the thread's look it begins: one stall each."""
    [before] = ask(shared, "status")["workers"]
    for _ in range(3):
        assert shared.get(f"/silent/?s=0.3&way={way}").status == 200
        assert shared.get("/short/").status == 200
    eventually(lambda: ask(shared, "status")["workers"][0]["stalls"] - before["stalls"] == 3, "all are counted")


def test_the_duration_is_that_of_the_block(shared: Server) -> None:
    """0.8 s, as the text says; no more than what the client has waited for."""
    mark, began = shared.log.mark(), time.monotonic()
    shared.get("/silent/?s=0.8&way=rests")
    waited = time.monotonic() - began
    event = shared.wait_for("hub_stalled", since=mark)
    assert 0.75 <= event["seconds"] <= waited + 0.001
    assert event["message"].startswith(
        f"hub blocked {event['seconds'] * 1000:.0f} ms by GET /silent/ (stall-silent), at "
    )
    assert event["sql"] == "", "the last request's is not this one's"


def test_a_kept_connection_tells_no_statement_of_the_request_before(shared: Server) -> None:
    with shared.raw() as raw:
        raw.get("/asks/?s=0&way=loops")
        assert raw.answer().status == 200
        mark = shared.log.mark()
        raw.get("/spawns/?s=0.4&way=hashes")
        assert raw.answer().status == 200
    assert shared.wait_for("hub_stalled", since=mark)["sql"] == ""


def test_a_stall_while_an_answer_is_streamed_names_its_view(shared: Server) -> None:
    event = stall(shared, "/streams/?s=0.4")
    assert (event["view"], event["sql"]) == ("stall-streams", "SELECT 'of the stream'")
    assert event["line"].endswith("in sleeps")


def test_a_stall_in_an_async_view_names_the_request(shared: Server) -> None:
    event = stall(shared, "/awaits/?s=0.4")
    assert (event["view"], event["url"]) == ("stall-awaits", "/awaits/?s=0.4")
    assert event["sql"] == "SELECT 'of the async view'"
    assert event["line"].endswith("in sleeps")


def test_a_greenlet_that_a_view_spawned_blocks_in_its_name(shared: Server) -> None:
    event = stall(shared, "/spawns/?s=0.4&way=keeps_the_lock")
    assert (event["view"], event["url"]) == ("stall-spawns", "/spawns/?s=0.4&way=keeps_the_lock")


def test_a_callback_of_the_loop_that_blocks_is_named(shared: Server) -> None:
    """It is nobody's request."""
    mark = shared.log.mark()
    shared.get("/late/?s=0.5")
    event = shared.wait_for("hub_stalled", since=mark)
    assert event["url"] == ""
    assert "(no request)" in event["message"]


def test_waiting_is_no_stall(shared: Server) -> None:
    """Neither for time nor for the database, nor many short requests at once: each has its turn."""
    mark = shared.log.mark()
    waiting = [shared.in_background("/waits/?s=0.4") for _ in range(5)]
    short = [shared.in_background("/short/") for _ in range(40)]
    assert {each.answer().status for each in [*waiting, *short]} == {200}
    assert not shared.events("hub_stalled", since=mark)


def test_a_process_that_was_stopped_has_not_stalled(shared: Server) -> None:
    """SIGSTOP, idle and within a request. A machine that is suspended does the same to it."""
    mark, pid = shared.log.mark(), shared.worker()
    os.kill(pid, signal.SIGSTOP)
    time.sleep(2 * THRESHOLD)
    os.kill(pid, signal.SIGCONT)
    asked = shared.in_background("/stopped/")
    eventually(lambda: procfs.state(pid) == "T", "the request has stopped its worker")
    time.sleep(2 * THRESHOLD)
    os.kill(pid, signal.SIGCONT)
    assert asked.answer().status == 200
    stall(shared, "/short/?s=0.4&way=hashes")
    assert [event["url"] for event in shared.events("hub_stalled", since=mark)] == ["/short/?s=0.4&way=hashes"]


def test_a_stall_that_lasts_is_told_while_it_does_and_at_its_end(shared: Server) -> None:
    """Two events, and counted once."""
    [before] = ask(shared, "status")["workers"]
    mark = shared.log.mark()
    blocked = shared.in_background("/silent/?s=5.6&way=keeps")
    first = shared.wait_for("hub_stalled", since=mark)
    assert (first["lasts"], first["view"]) == (True, "stall-silent")
    assert first["message"].startswith("hub has been blocked for 5")
    assert blocked.answer().status == 200
    end = shared.wait_for("hub_recovered", since=mark)
    assert end["seconds"] > first["seconds"]
    assert "GET /silent/ (stall-silent)" in end["message"]
    [after] = ask(shared, "status")["workers"]
    assert after["stalls"] - before["stalls"] == 1
    assert len(shared.events("hub_stalled", since=mark)) == 1


def test_what_warms_a_new_generation_up_blocks_no_hub(shared: Server) -> None:
    """No client waits there; nor is a hook of a worker that does not serve yet a stall."""
    assert shared.events("listening")
    first_ready = shared.log.all().index(shared.events("worker_ready")[0])
    assert not [event for event in shared.log.all()[:first_ready] if event["event"] == "hub_stalled"]


def test_a_flood_of_stalls_is_told_once_with_a_count(shared: Server) -> None:
    """All are counted; the same function has one line in ten seconds."""
    [before] = ask(shared, "status")["workers"]
    mark = shared.log.mark()
    for _ in range(4):
        assert shared.get("/silent/?s=0.3&way=sleeps").status == 200
    [after] = ask(shared, "status")["workers"]
    assert 4 <= after["stalls"] - before["stalls"] < 8, "each once; a busy machine may make another"
    assert len(shared.events("hub_stalled", since=mark)) <= 1
    assert "stalls" in ctl(shared, "status").out


def test_a_stall_while_a_worker_drains_is_told(server: Server, project: Project) -> None:
    """Its last requests are as much in the way of one another."""
    project.append(URLS, VIEWS)
    server.start(workers=1, stall_threshold=THRESHOLD, probe="off")
    last = server.in_background("/waits/?s=0.5&then=0.5")
    eventually(lambda: ask(server, "requests")["requests"], "it runs")
    mark = server.term()
    assert last.answer().status == 200
    event = server.wait_for("hub_stalled", since=mark)
    assert event["view"] == "stall-waits"
    server.wait()


def test_no_stall_is_looked_for_where_the_threshold_is_zero(server: Server, project: Project) -> None:
    """Longer than any stall that is told elsewhere: neither the log nor `status` has it."""
    project.append(URLS, VIEWS)
    server.start(workers=1, stall_threshold=0, probe="off")
    for _ in range(2):
        assert server.get("/silent/?s=0.8&way=sleeps").status == 200
    eventually(lambda: ask(server, "status")["workers"][0]["requests"] == 2, "both are counted")
    assert ask(server, "status")["workers"][0]["stalls"] == 0
    server.term()
    server.wait()
    assert not server.events("hub_stalled")

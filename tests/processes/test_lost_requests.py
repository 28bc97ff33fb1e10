"""The access log has a line for every request, also for those that have no answer: killed, ended, refused."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from djworker.ipc.in_flight import LostRequest, read
from tests.processes import procfs
from tests.processes.control import ask
from tests.processes.events import eventually
from tests.processes.project import URLS
from tests.processes.server import Server

VIEWS = """
import time
from django.db import transaction
from django.http import HttpResponse
from django.urls import path
from gevent import monkey

def sleeps(request):
    time.sleep(60)

def blocks(request):
    monkey.get_original("time", "sleep")(60)

def spins(request):
    while True:
        pass

urlpatterns += [path(f"{view.__name__}/", view) for view in (sleeps, blocks, spins)]
"""
JSON = {"access_log": "-", "access_log_format": "json"}


@pytest.fixture
def server(make_server: Callable[[], Server]) -> Server:
    """With views that do not end."""
    server = make_server()
    server.project.append(URLS, VIEWS)
    return server


def lines(server: Server, path: str = "") -> list[dict[str, Any]]:
    """The access log, or what it says of a path."""
    found = [json.loads(line) for line in server.output.read_text().splitlines() if line.startswith("{")]
    return [line for line in found if path in ("", line["path"])]


def in_flight(server: Server, count: int) -> list[dict[str, Any]]:
    """So many requests, once they are there."""

    def look() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask(server, "requests")["requests"]
        return found if len(found) == count else []

    found: list[dict[str, Any]] = eventually(look, f"{count} requests run")
    return found


def noted(server: Server) -> list[LostRequest]:
    """What the arbiter would find, were its only worker killed now."""
    # Before Python 3.13 a mapping has a copy of its descriptor.
    number, *_ = [fd for fd, name in procfs.descriptors(server.pid).items() if "memfd:djworker-scoreboard" in name]
    fd = os.open(f"/proc/{server.pid}/fd/{number}", os.O_RDONLY)
    try:
        return read(fd)
    finally:
        os.close(fd)


def test_requests_of_a_killed_worker_have_their_lines(server: Server) -> None:
    """Three at kill -9, with what they did; those that were answered before on the same connections have no second one."""
    server.start(workers=1, probe="off", forwarded_allow_ips="127.0.0.1", **JSON)
    [pid] = server.ready()
    with socket.create_connection((server.address.host, server.address.port)) as kept:
        kept.sendall(b"GET /raw HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.recv(4096).startswith(b"HTTP/1.1 200 ")
        kept.sendall(b"GET /sleeps/?a=1 HTTP/1.1\r\nHost: x\r\nUser-Agent: it\r\nX-Forwarded-For: 10.1.2.3\r\n\r\n")
        with socket.create_connection((server.address.host, server.address.port)) as client:
            client.sendall(b"POST /sleeps/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\nhalf")
            server.in_background("/sleeps/?%C3%A4", headers={"Referer": "https://r.test/"})
            in_flight(server, 3)
            time.sleep(1.2)  # their times are looked at below
            eventually(lambda: "reading body" in {one.phase for one in noted(server)}, "what each does is noted")
            os.kill(pid, signal.SIGKILL)
            found = eventually(
                lambda: len(lines(server, "/sleeps/")) == 3 and lines(server, "/sleeps/"), "they are there"
            )
    assert {line["method"] + line["query"] for line in found} == {"GETa=1", "GET%C3%A4", "POST"}
    assert {line["client"] for line in found} == {"127.0.0.1", "10.1.2.3"}
    assert {line["phase"] for line in found} == {"running", "reading body"}
    assert {(line["status"], line["reason"], line["pid"]) for line in found} == {
        (0, "lost with the worker: SIGKILL", pid)
    }
    assert all(line["seconds"] >= 1 for line in found)
    assert {line["agent"] for line in found} >= {"it"}
    assert {line["referer"] for line in found} >= {"https://r.test/"}
    assert len(lines(server, "/raw")) == 1


def test_a_request_that_has_just_begun_has_a_line_too(server: Server, tmp_path: Any) -> None:
    """In a file, in gunicorn's atoms, and ours for the phase and the reason."""
    log = tmp_path / "access.log"
    form = '%(h)s %(p)s "%(r)s" %(s)s %(P)s "%(R)s"'
    server.start(workers=1, probe="off", access_log=str(log), access_log_format=form)
    [pid] = server.ready()
    server.in_background("/blocks/")
    eventually(lambda: ask(server, "requests")["requests"], "it runs")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: "/blocks/" in log.read_text(), "it is there")
    line = f'127.0.0.1 <{pid}> "GET /blocks/ HTTP/1.1" 000 running "lost with the worker: SIGKILL"'
    found = [json.loads(each) for each in log.read_text().splitlines()]
    assert [each["message"] for each in found if each["path"] == "/blocks/"] == [line]


@pytest.mark.parametrize("view", ["spins", "blocks"])
def test_the_request_that_a_watchdog_ends_has_one_line(server: Server, view: str) -> None:
    """And so has one beside it."""
    server.start(workers=1, timeout=1, probe="off", **JSON)
    [pid] = server.ready()
    server.in_background("/sleeps/")
    in_flight(server, 1)
    server.in_background(f"/{view}/")
    assert server.wait_for("worker_gone")["pid"] == pid
    for path in (f"/{view}/", "/sleeps/"):
        [line] = lines(server, path)
        assert (line["status"], line["phase"], line["pid"]) == (0, "running", pid)
        assert "lost with the worker" in line["reason"]
    server.expected.add("worker_boot_failed")


def test_a_fast_stop_leaves_a_line_for_each(server: Server) -> None:
    server.start(workers=2, probe="off", **JSON)
    for number in range(3):
        server.in_background(f"/sleeps/?{number}")
    in_flight(server, 3)
    server.interrupt()
    assert server.wait() == 0
    found = lines(server, "/sleeps/")
    assert sorted(line["query"] for line in found) == ["0", "1", "2"]
    assert {line["phase"] for line in found} == {"running"}


def test_requests_that_wait_in_vain_are_refused_with_a_line(server: Server) -> None:
    """Each with what it asked for; the one before it with what it did when its worker was killed."""
    server.start(workers=1, probe="off", worker_connections=1, queue_timeout=0.5, **JSON)
    server.in_background("/sleeps/")
    in_flight(server, 1)
    assert server.get("/raw?late", headers={"User-Agent": "it"}).status == 503
    [line] = eventually(lambda: lines(server, "/raw"), "it has a line")
    assert (line["method"], line["status"], line["query"], line["agent"]) == ("GET", 503, "late", "it")
    assert line["reason"] == "the request waited for too long to begin"
    server.interrupt()  # the other one need not be waited for
    assert server.wait() == 0


def test_a_killed_request_that_has_not_begun_is_answered(server: Server) -> None:
    server.start(workers=1, probe="off", worker_connections=1, queue_timeout=60, **JSON)
    running = server.in_background("/sleeps/")
    in_flight(server, 1)
    queued = server.in_background("/raw")
    found = in_flight(server, 2)
    for path in ("/raw", "/sleeps/"):
        [wanted] = [item for item in found if item["path"] == path]
        assert ask(server, "kill", request=wanted["id"])["killed"]
    assert queued.answer().status == running.answer().status == 503
    for path in ("/raw", "/sleeps/"):
        [line] = eventually(lambda path=path: lines(server, path), "it has a line")  # type: ignore[misc]
        assert (line["status"], line["reason"]) == (503, "ended by an operator")


def test_without_an_access_log_nothing_is_kept(server: Server) -> None:
    server.start(workers=1, probe="off")
    [pid] = server.ready()
    server.in_background("/sleeps/")
    in_flight(server, 1)
    os.kill(pid, signal.SIGKILL)
    server.wait_for("worker_gone")
    assert not server.events("access_log_lost")
    assert re.sub(r"\s", "", server.output.read_text()) == ""

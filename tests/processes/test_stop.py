"""TERM, INT and QUIT: every request that was taken is answered, and nobody can hold the end back."""

from __future__ import annotations

import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.processes.events import PATIENCE, eventually
from tests.processes.http import Answer, Raw, idle_connections
from tests.processes.project import URLS
from tests.processes.server import Server
from tests.processes.test_boot import hook


def test_what_runs_and_what_waits_in_the_accept_queue_is_answered(server: Server) -> None:
    """Each worker runs two requests, so that the others wait in the kernel, until both workers know that it is the end."""
    server.project.append(URLS, hook("worker_draining", "open(f'draining.{kwargs[\"pid\"]}', 'w').close()"))
    server.start(worker_connections=2, graceful_timeout=20)
    with server.held("/drill/version", 4) as running:
        queued = [server.raw() for _ in range(12)]
        for raw in queued:
            raw.get("/debug/sleep?s=0.1")
        server.term()
        eventually(lambda: len(list(server.project.folder.glob("draining.*"))) == 2, "both workers drain")
    assert [request.answer().status for request in running] == [200] * 4
    answers = [raw.answer() for raw in queued]
    assert [answer.status for answer in answers] == [200] * 12
    assert {answer.headers["connection"] for answer in answers} == {"close"}
    assert server.wait() == 0


def test_stop_under_load(server: Server) -> None:
    """Everything that was accepted is answered; afterwards nobody listens."""
    server.start()
    with server.load(clients=6) as load:
        load.wait_for_answers(50)
        assert server.stop() == 0
        eventually(lambda: load.refused > 10, "connections are refused")
    assert not load.lost
    assert set(load.statuses) == {200}


def test_what_is_cut_at_the_end_of_the_grace_is_logged(server: Server) -> None:
    server.start(graceful_timeout=1, workers=1)
    (endless,) = server.running("/debug/sleep?s=60")
    assert server.stop() == 0
    cut = server.wait_for("request_cut")
    assert cut["url"].startswith("/debug/sleep?s=60")
    assert cut["age"] >= 1
    assert isinstance(endless.result(), Exception)
    assert not server.events("worker_killed")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_fast_stop_cuts_what_runs(server: Server, number: signal.Signals) -> None:
    server.start(graceful_timeout=60)
    half = server.raw()
    half.send(b"GET / HT")
    (endless,) = server.running("/debug/sleep?s=60")
    server.send(number)
    assert server.wait(timeout=10) == 0
    assert server.wait_for("stopping")["fast"]
    server.log.wait_for_end()
    (cut,) = server.events("request_cut")  # no other: half a head is no request
    assert cut["url"].startswith("/debug/sleep?s=60")
    assert isinstance(endless.result(), Exception)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_twice_it_is_quick(server: Server, number: signal.Signals) -> None:
    server.start(graceful_timeout=60)
    (endless,) = server.running("/debug/sleep?s=60")
    server.term()
    server.wait_for("stopping", fast=False)
    server.send(number)
    server.wait_for("stopping", fast=True)
    assert server.wait(timeout=10) == 0
    assert isinstance(endless.result(), Exception)


def test_asked_until_the_very_end_it_ends_by_itself(server: Server) -> None:
    """The interpreter takes a moment to leave, too."""
    server.start(workers=1)
    while server.process.poll() is None:
        server.term()
        time.sleep(0.001)
    assert server.wait() == 0


def test_a_hub_that_stops_while_it_drains_is_found(server: Server) -> None:
    """Long before the end of its grace; and the log says what stopped it."""
    block = "from gevent.monkey import get_original; get_original('time', 'sleep')(600)"
    server.project.append(URLS, hook("worker_draining", block))
    server.start(timeout=2, graceful_timeout=600, workers=1)
    server.term()
    assert "get_original('time', 'sleep')(600)" in server.wait_for("hub_blocked")["stack"]
    assert server.wait_for("worker_killed")["reason"] == "timeout"
    assert server.wait() == 0


def test_a_long_drain_is_not_taken_for_a_blocked_one(server: Server) -> None:
    server.start(timeout=2, graceful_timeout=60, workers=1)
    (request,) = server.running("/debug/sleep?s=6")
    assert server.stop() == 0
    assert request.answer().status == 200
    assert not server.events("worker_killed")


def slow_clients(server: Server) -> Iterator[tuple[str, Raw]]:
    """Every way to keep a connection without getting on."""
    silent = server.raw()
    yield "sends nothing", silent
    half_head = server.raw()
    half_head.send(b"GET /raw HTTP/1.1\r\nHost: lo")
    yield "half a head", half_head
    half_body = server.raw()
    half_body.send(b"POST /debug/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
    yield "half a body", half_body
    never_reads = server.raw()
    never_reads.get("/drill/big?pieces=1000")
    yield "never reads", never_reads
    idle = server.raw()
    idle.get("/raw")
    assert idle.answer().status == 200
    yield "kept and idle", idle


def test_clients_that_do_not_get_on_do_not_delay_the_stop(server: Server) -> None:
    """Deadlines of an hour, a grace of an hour: the worker cuts short who makes it wait, once it drains."""
    hour = 3600
    server.start(
        graceful_timeout=hour, header_timeout=hour, body_timeout=hour, write_timeout=hour, keep_alive=hour, workers=1
    )
    server.tracebacks_expected = True  # of the view that is told that its body will not come
    clients = dict(slow_clients(server))
    server.get("/raw")  # by now, the worker has seen them all
    server.term()
    assert server.wait(timeout=20) == 0
    assert clients["kept and idle"].rest() == b""
    assert clients["sends nothing"].rest() == b""
    assert clients["half a head"].rest()[:12] in (b"HTTP/1.1 408", b"")
    assert clients["half a body"].rest()[:12] in (b"HTTP/1.1 408", b"")


def test_clients_that_do_not_get_on_are_ended_at_their_deadline(server: Server) -> None:
    server.start(header_timeout=1, body_timeout=1, write_timeout=1, keep_alive=1, workers=1)
    server.tracebacks_expected = True  # of the view that is told that its body will not come
    clients = dict(slow_clients(server))
    assert clients["half a head"].rest().startswith(b"HTTP/1.1 408")
    assert clients["half a body"].rest().startswith(b"HTTP/1.1 408")
    assert clients["sends nothing"].rest() == b""
    assert clients["kept and idle"].rest() == b""
    assert len(clients["never reads"].rest()) < 1000 * 65536
    assert server.get("/raw").status == 200


def test_idle_connections_do_not_delay_a_reload(server: Server) -> None:
    """A request on a kept connection to an old worker is answered, or the connection is ended; never a reset."""
    server.start(keep_alive=3600, workers=1)
    with idle_connections(server.address, 20) as kept:
        server.reload()
        server.wait_for("worker_gone", status=0)
        assert [raw.rest() for raw in kept] == [b""] * 20


def test_thousands_of_idle_connections(server: Server) -> None:
    """5 000 on one worker, from one process; new clients are served beside them, and TERM is as quick as ever."""
    count = 5000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * count + 500
    if soft < wanted:
        assert hard >= wanted, f"this machine allows {hard} descriptors, the test needs {wanted}"
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    server.start(workers=1, keep_alive=600)
    worker = server.worker()
    with idle_connections(server.address, count) as kept:
        for _ in range(20):
            assert server.get("/debug/pid", timeout=5).json()["pid"] == worker
        for raw in kept[::500]:  # and they live
            raw.get("/raw")
            assert raw.answer().status == 200
        assert server.stop() == 0
    assert not server.events("worker_killed")


@pytest.mark.parametrize(
    "moment", ["reload_started", "mold_booting", "mold_ready", "worker_spawned", "worker_ready", "worker_retired"]
)
def test_stop_at_any_moment_of_a_rollout(server: Server, moment: str) -> None:
    server.start(workers=1)
    with server.load(clients=4) as load:
        load.wait_for_answers()
        server.project.set_version(2)
        server.wait_for(moment, since=server.hup())
        assert server.stop() == 0
    assert not load.lost
    assert set(load.statuses) == {200}


@pytest.mark.parametrize("moment", ["mold_booting", "worker_spawned", "worker_retired"])
def test_fast_stop_at_any_moment_of_a_rollout(server: Server, moment: str) -> None:
    server.start(workers=1)
    server.wait_for(moment, since=server.hup())
    server.interrupt()
    assert server.wait(timeout=10) == 0


def test_stop_during_a_crash_loop(server: Server) -> None:
    from tests.processes.test_faults import DIES

    server.project.append(URLS, DIES)
    server.launch(workers=1)
    server.wait_for("backoff", failures=4)
    assert server.stop() == 0


def test_a_big_answer_that_is_being_read_is_sent_whole(server: Server) -> None:
    server.start(workers=1)
    received = []
    started = threading.Event()

    def read_slowly() -> None:
        with server.raw() as raw:
            raw.get("/drill/big?pieces=200", close=True)
            total = 0
            while piece := raw.sock.recv(65536):
                total += len(piece)
                started.set()
                started.wait(0.01)
            received.append(total)

    reader = threading.Thread(target=read_slowly)
    reader.start()
    assert started.wait(PATIENCE)
    assert server.stop() == 0
    reader.join()
    assert received[0] >= 200 * 65536


def test_the_worker_can_be_asked_itself(server: Server) -> None:
    """TERM to a worker: it drains and leaves, and is replaced."""
    server.start()
    mark = server.kill(server.worker(0), signal.SIGTERM)
    assert server.wait_for("worker_gone", since=mark)["status"] == 0
    server.wait_for("worker_ready", since=mark)
    with ExitStack() as stack:
        stack.enter_context(server.raw())
        answer = server.get("/raw")
        assert isinstance(answer, Answer)

"""What happens to a process tree that lives among failures: who is hit, who is not, and who comes back."""

from __future__ import annotations

import json
import signal
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from tests.processes import procfs
from tests.processes.control import ask
from tests.processes.events import eventually
from tests.processes.http import Answer
from tests.processes.project import URLS
from tests.processes.server import Server
from tests.processes.test_boot import hook

#: A greenlet that ends the worker soon after it is ready. The mold may not start it, so a hook does.
DIES = hook("worker_ready", "import gevent, os; gevent.spawn_later(0.3, os._exit, 5)")


# -- workers that end -------------------------------------------------------------------------------------------------


def test_a_killed_worker_comes_back_with_the_old_code_while_the_files_are_broken(server: Server) -> None:
    server.start()
    server.project.set_version(2)
    server.project.break_syntax()
    for slot in (0, 1):
        mark = server.kill(server.worker(slot))
        assert server.wait_for("worker_gone", since=mark)["status"] == -signal.SIGKILL
        server.wait_for("worker_ready", since=mark, timeout=5)
        assert not server.events("mold_booting", since=mark)
    assert {server.version() for _ in range(10)} == {1}


def test_a_killed_worker_leaves_the_number_of_its_requests(server: Server) -> None:
    """It cannot write their lines into the access log any more."""
    server.start(workers=1)
    server.running("/drill/wait?s=20", 3)
    eventually(lambda: ask(server, "status")["workers"][0]["running"] == 3, "a beat shows them")
    mark = server.kill(server.worker())
    gone = server.wait_for("worker_gone", since=mark)
    assert (gone["status"], gone["running"]) == (-signal.SIGKILL, 3)


def test_workers_are_killed_one_after_the_other_under_load(server: Server) -> None:
    """Lost is at most what the killed worker had in its hands."""
    server.start()
    with server.load(clients=6) as load:
        for _ in range(5):
            load.wait_for_answers()
            mark = server.kill(server.ready()[0])
            server.wait_for("worker_ready", since=mark)
        load.wait_for_answers()
    assert len(load.lost) <= 5 * 6
    assert load.refused == 0
    assert set(load.statuses) == {200}


@pytest.mark.parametrize(
    "how, status",
    [("/drill/crash", -signal.SIGSEGV), ("/debug/crash?code=4", 4), ("/debug/crash?how=abrt", -signal.SIGABRT)],
)
def test_a_view_that_ends_its_worker(server: Server, how: str, status: int) -> None:
    server.start()
    other_half = server.load(clients=2)
    mark = server.log.mark()
    with other_half:
        assert isinstance(server.in_background(how).result(), Exception)
        gone = server.wait_for("worker_gone", since=mark)
        assert gone["status"] == status
        server.wait_for("worker_ready", since=mark)
        other_half.wait_for_answers()
    assert len(other_half.lost) <= 2
    if status == -signal.SIGSEGV:
        assert any("crash_in_c" in event["text"] for event in server.events("raw")), "faulthandler tells where"


def test_max_requests_under_load(server: Server) -> None:
    """Replacement first: no request is lost, and the number of ready workers never dips."""
    server.start(max_requests=40, max_requests_jitter=20)
    mark = server.log.mark()
    with server.load(clients=4, pause=0.005) as load:
        server.wait_for("worker_retired", count=4, timeout=60)
        load.wait_for_answers()
    load.assert_nothing_lost()
    assert server.fewest_ready(mark) == 2
    assert len(load.pids) >= 4


def test_a_crash_loop_backs_off_and_recovers_when_its_cause_is_gone(server: Server) -> None:
    """The cause is outside of the code: a file that is missing."""
    needed = server.project.path("needed")
    needed.touch()
    code = "import gevent, os; gevent.spawn_later(0.3, lambda: os.path.exists('needed') or os._exit(5))"
    server.project.append(URLS, hook("worker_ready", code))
    server.start()
    needed.unlink()
    for pid in server.ready():
        with suppress(ProcessLookupError):  # one that has looked for the file meanwhile
            server.kill(pid)
    server.wait_for("backoff", failures=5)
    needed.touch()
    seconds = [event["seconds"] for event in server.events("backoff")]
    assert all(later == 2 * earlier for earlier, later in pairwise(seconds)), seconds
    server.log.wait_until(lambda _: len(server.ready()) == 2)
    mark = server.log.mark()
    with server.load(clients=2) as load:
        load.wait_for_answers(100)
    load.assert_nothing_lost()
    assert not server.events("worker_gone", since=mark)


def test_a_crash_loop_from_the_first_start_goes_on_at_ever_longer_intervals(server: Server) -> None:
    server.project.append(URLS, DIES)
    server.launch(workers=1)
    fourth = server.wait_for("backoff", failures=4)
    said = server.log.all()
    names = [event["event"] for event in said[: said.index(fourth) + 1]]
    assert [event["seconds"] for event in server.events("backoff")][:4] == [0.2, 0.4, 0.8, 1.6]
    assert names.count("worker_spawned") == 4


# -- workers that do not turn -----------------------------------------------------------------------------------------


def test_a_view_that_loops_on_the_cpu(server: Server) -> None:
    server.start(timeout=2)
    with server.load(clients=1) as others:
        (blocked,) = server.running("/debug/spin?s=60")
        seen = server.wait_for("hub_blocked")
        assert "views/debug.py" in seen["stack"]
        assert "views/debug.py" in seen["line"]
        assert "blocked by GET /debug/spin (" in seen["message"]
        assert not server.events("hub_stalled"), "it is told once"
        assert any("/debug/spin?s=60" in line for line in seen["in_flight"]), seen["in_flight"]
        killed = server.wait_for("worker_killed")
        assert (killed["reason"], killed["pid"]) == ("timeout", seen["pid"])
        assert isinstance(blocked.result(), Exception)
        server.wait_for("worker_ready", count=3)
        others.wait_for_answers()
    assert len(others.lost) <= 1, "a request that was on the blocked worker's connection"
    assert len(server.ready()) == 2


def test_c_code_that_holds_the_interpreter(server: Server) -> None:
    """No thread of Python can look; faulthandler, asked by a signal, can."""
    server.start(timeout=2)
    blocked = server.in_background("/drill/block")
    killed = server.wait_for("worker_killed")
    assert killed["reason"] == "timeout"
    gone = server.wait_for("worker_gone", pid=killed["pid"])
    assert gone["status"] == -signal.SIGKILL
    assert any("block_in_c" in event["text"] for event in server.events("raw"))
    assert isinstance(blocked.result(), Exception)
    server.wait_for("worker_ready", count=3)


def test_a_stopped_worker(server: Server) -> None:
    """It is replaced, what it held is lost, and it never serves again."""
    server.start(timeout=2)
    stopped = server.worker(0)
    with server.load(clients=4) as load:
        load.wait_for_answers()
        server.kill(stopped, signal.SIGSTOP)
        assert server.wait_for("worker_killed")["pid"] == stopped
        server.wait_for("worker_gone", pid=stopped)
        server.wait_for("worker_ready", count=3)
        load.wait_for_answers()
    assert len(load.lost) <= 4
    assert load.refused == 0


def test_a_stopped_worker_does_not_delay_the_stop(server: Server) -> None:
    server.start(graceful_timeout=1)
    server.kill(server.worker(0), signal.SIGSTOP)
    server.term()
    assert server.wait_for("worker_killed")["reason"] == "graceful_timeout"
    assert server.wait() == 0


def test_a_stopped_mold(server: Server) -> None:
    """Nobody knows until a worker is needed; then the deadline of that worker finds it."""
    server.start(boot_timeout=12)
    old = server.mold()
    server.kill(old, signal.SIGSTOP)
    mark = server.kill(server.worker(0))
    server.wait_for("mold_lost", since=mark)
    server.wait_for("mold_ready", since=mark)
    server.wait_for("worker_ready", since=mark)
    assert not procfs.alive(old)
    eventually(lambda: len(server.ready()) == 2, "two workers")


def test_a_suspended_arbiter_kills_nobody(server: Server) -> None:
    """A laptop that slept: no time has passed for the workers either."""
    server.start(timeout=2)
    workers = server.ready()
    beats = 50
    with server.suspended(*server.settled()):
        mark = server.log.mark()
        for _ in range(beats):  # longer than any timeout of this server
            signal.sigtimedwait([], 0.1)
    with server.load(clients=2) as load:
        load.wait_for_answers(200)
    load.assert_nothing_lost()
    assert server.ready() == workers
    assert not server.events("worker_killed", since=mark)


# -- the arbiter ------------------------------------------------------------------------------------------------------


def test_the_arbiter_is_killed(server: Server) -> None:
    """Nobody outlives it: not a worker that loops on the CPU, not one that is stopped, not the mold."""
    server.start(workers=3, graceful_timeout=600)
    blocked = server.running("/debug/spin?s=600")
    busy = server.running("/debug/sleep?s=600")
    idle = eventually(lambda: [pid for pid in server.ready() if procfs.state(pid) == "S"], "one that waits")[0]
    server.kill(idle, signal.SIGSTOP)
    server.kill_arbiter()
    assert server.log.wait_for_end(), "gone at once, where every request and the grace would last for longer"
    assert all(isinstance(request.result(), Exception) for request in blocked + busy)


def test_the_arbiter_is_killed_during_a_reload(server: Server) -> None:
    server.start()
    server.project.append(URLS, "open('loading', 'w').close(); import time; time.sleep(600)")
    server.hup()
    eventually(server.project.path("loading").exists, "the mold loads the project")
    server.kill_arbiter()
    assert server.log.wait_for_end()


def test_orphans_of_views_are_reaped(server: Server) -> None:
    """We may be PID 1. An exit code 3 of somebody else's means nothing."""
    server.start(log_level="debug")
    for _ in range(5):
        assert server.get("/drill/orphan").status == 200
    server.wait_for("orphan_reaped", count=5, status=3)
    eventually(
        lambda: not [pid for pid in procfs.children(server.pid) if procfs.state(pid) == "Z"], "no zombie is left"
    )
    assert len(server.ready()) == 2


# -- what must not be forked ------------------------------------------------------------------------------------------


NATIVE_THREAD = """
from gevent.monkey import get_original as g
def burrow():
    g('time', 'sleep')(99)
g('_thread', 'start_new_thread')(burrow, ())
"""


@pytest.mark.parametrize(
    "code, says",
    [
        (
            "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), name='worm').start()",
            "thread 'worm'",
        ),
        ("import gevent\ndef crawl(): gevent.sleep(99)\ngevent.spawn(crawl)", "greenlet 'crawl'"),
        (NATIVE_THREAD, "native thread"),
        (
            "from django.db import transaction\ntransaction.atomic().__enter__()",
            "a connection to database 'default', inside atomic(), which was never left",
        ),
        (hook("mold_ready", "import gevent; gevent.spawn_later(99, print)"), "greenlet"),
    ],
)
def test_leftovers_are_refused_with_the_name_of_their_owner(server: Server, code: str, says: str) -> None:
    server.project.append(URLS, code)
    server.launch(preload_mode="on")
    assert server.wait() == 3
    failed = server.wait_for("mold_failed")
    assert failed["stage"] == "leftovers"
    assert says in failed["error"]
    assert "testproject/urls.py:" in failed["error"]
    assert failed["module"] == "testproject.urls"


def test_a_connection_to_another_service_is_told_of_and_the_workers_serve(server: Server) -> None:
    code = """
import socket
listens = socket.create_server(("127.0.0.1", 0))
kept = socket.create_connection(listens.getsockname())
"""
    server.project.append(URLS, code)
    server.start()
    told = server.wait_for("connection_left_open")
    assert told["peer"].startswith("127.0.0.1:")
    assert told["level"] == "warning"
    assert server.get("/debug/pid").status == 200


def test_what_may_be_forked(server: Server) -> None:
    """Threads that have ended, connections, which are closed, and whatever a hook of the worker starts."""
    server.project.append(
        URLS,
        "import threading\nfrom django.db import connection\nconnection.ensure_connection()\n"
        "thread = threading.Thread(target=print)\nthread.start()\nthread.join()",
    )
    server.project.append(URLS, hook("worker_ready", "import gevent; gevent.spawn(gevent.sleep, 99)"))
    server.start()
    assert server.get("/db").status == 200


# -- hooks ------------------------------------------------------------------------------------------------------------


def test_hooks_run_in_the_process_they_speak_of(server: Server) -> None:
    names = ("mold_ready", "worker_started", "worker_ready", "worker_draining", "worker_exiting")
    for name in names:
        code = "import os, sys; sys.stderr.write(f'HOOK {NAME} {os.getpid()} {kwargs}\\n'.replace('NAME', 'x'))"
        server.project.append(URLS, hook(name, code.replace("{NAME}", name)))
    server.start(workers=1)
    worker, mold = server.worker(), server.mold()
    server.stop()
    server.log.wait_for_end()
    said = [event["text"].split()[1:3] for event in server.events("raw") if event["text"].startswith("HOOK")]
    assert said == [["mold_ready", str(mold)], *([name, str(worker)] for name in names[1:])]


def test_hooks_that_raise(server: Server) -> None:
    server.expected.add("hook_failed")
    names = ("mold_ready", "worker_started", "worker_ready", "worker_draining", "worker_exiting")
    for name in names:
        server.project.append(URLS, hook(name, f"raise SystemExit('no {name}')"))
    server.start(workers=1)
    assert server.get("/raw").status == 200
    assert server.stop() == 0
    server.log.wait_for_end()
    failed = [event["message"] for event in server.events("hook_failed")]
    assert failed == [f"a receiver of {name} failed" for name in names]


def test_hooks_that_hang(server: Server) -> None:
    """A worker that is asked to leave does not wait for them for long."""
    for name in ("worker_ready", "worker_draining", "worker_exiting"):
        server.project.append(URLS, hook(name, "import gevent; gevent.sleep(3600)"))
    server.start(workers=1)
    assert server.get("/raw").status == 200
    assert server.stop() == 0
    server.log.wait_for_end()
    assert any("worker_exiting" in event["message"] for event in server.events("hook_hangs"))
    assert not server.events("worker_killed")


def test_a_request_that_fails_costs_nothing_but_itself(server: Server) -> None:
    server.start(workers=1)
    server.tracebacks_expected = True
    worker = server.worker()
    for _ in range(3):
        answer = server.get("/debug/crash?how=raise")
        assert isinstance(answer, Answer)
        assert answer.status == 500
    assert server.get("/debug/pid").json()["pid"] == worker


def test_a_time_limit_by_signal_reaches_the_request_that_set_it(server: Server) -> None:
    """And no other, though others run when the signal comes; one that comes too late is told of, and ends nothing."""
    server.start(workers=1)
    worker = server.worker()
    others = server.running("/drill/busy?s=1", 2)
    assert server.get("/drill/limited").body == b"took too long"
    for other in others:
        assert other.answer().body == b"done"
    with server.raw() as kept:
        kept.get("/drill/limited?late=1")
        assert kept.answer().body == b"early"
        (next_one,) = server.running("/drill/busy?s=0.5")
        kept.get("/debug/sleep?s=0.5")
        assert server.wait_for("signal_handler_failed")["signal"] == "SIGALRM"
        assert kept.answer().status == 200
    assert next_one.answer().status == 200
    assert server.get("/drill/leave").status == 200
    assert server.ready() == [worker]


def test_the_access_log_has_the_requests_that_were_lost_with_their_worker(server: Server, scratch: Path) -> None:
    """Killed because its hub stands still; cut at the end of its grace."""
    log = scratch / "access.log"
    server.start(workers=1, timeout=1, graceful_timeout=1, access_log=log)
    mark = server.log.mark()
    (_waiting,) = server.running("/debug/sleep?s=30")
    server.raw().get("/debug/spin?s=30")
    server.wait_for("worker_killed", since=mark)
    server.wait_for("worker_ready", since=mark)
    (_cut,) = server.running("/debug/sleep?s=31")
    assert server.stop() == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lost = {(line["path"], line["query"][:4]): line for line in lines if line["reason"]}
    assert lost.keys() == {("/debug/sleep", "s=30"), ("/debug/spin", "s=30"), ("/debug/sleep", "s=31")}
    assert {(line["status"], line["bytes"]) for line in lost.values()} == {(0, 0)}
    assert "the hub has not turned" in lost["/debug/spin", "s=30"]["reason"]
    assert "grace" in lost["/debug/sleep", "s=31"]["reason"]

"""``workers = "1..4"``: the number of workers follows the load, and no request is lost over it."""

from __future__ import annotations

import signal
import subprocess

from tests.benchmarks import wrk
from tests.http.test_proxies import program
from tests.processes.events import eventually
from tests.processes.server import Server

SPAN = {"workers": "1..3", "timeout": 60}


def wanted(server: Server, since: int = 0) -> list[int]:
    return [event["workers"] for event in server.events("scaled", since=since)]


def test_workers_come_with_the_load_and_go_with_it(server: Server) -> None:
    server.launch(**SPAN)
    server.wait_for("worker_ready")
    assert server.get("/debug/pid").status == 200
    mark = server.log.mark()
    work = subprocess.Popen(
        [program("wrk"), "-t1", "-c6", "-d60s", "--timeout=20s", "--latency", f"{server.url}/drill/busy?s=0.2"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with server.load() as load:
        grown = server.wait_for("scaled", since=mark)
        assert (grown["workers"], grown["before"]) == (2, 1)
        assert grown["reason"]
        server.wait_for("worker_ready", since=mark)
        load.wait_for_answers()
        work.send_signal(signal.SIGINT)
        output, _ = work.communicate(timeout=30)
        load.stop()
    assert wrk.parse(output).errors == 0
    eventually(lambda: wanted(server, mark)[-1] == 1, "as few as there may be", timeout=90)
    numbers = wanted(server, mark)
    top = numbers.index(max(numbers))
    assert numbers == [*sorted(numbers[: top + 1]), *sorted(numbers[top + 1 :], reverse=True)], "it swings"
    server.wait_for("worker_gone", since=mark)
    eventually(lambda: len(server.ready()) == 1, "one is left")
    load.assert_nothing_lost()
    assert server.get("/debug/pid").status == 200


def test_a_number_that_was_asked_for_stays_until_a_reload(server: Server) -> None:
    server.launch(**SPAN)
    server.wait_for("worker_ready")
    mark = server.send(signal.SIGTTIN)
    server.wait_for("worker_ready", since=mark)
    assert wanted(server, mark) == [2]
    with server.load(clients=8, pause=0.0) as load:
        load.wait_for_answers(300)
        assert wanted(server, mark) == [2]
        load.stop()
    load.assert_nothing_lost()
    mark = server.hup()
    server.wait_for("reload_done", since=mark)
    eventually(lambda: len(server.ready()) == 1, "the least again")

"""``workers = "1..4"``: the number of workers follows the load, and no request is lost over it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.benchmarks import wrk
from tests.http.test_proxies import program
from tests.processes.events import eventually
from tests.processes.project import URLS
from tests.processes.server import Server

SPAN = {"workers": "1..3", "timeout": 60}


def wanted(server: Server, since: int = 0) -> list[int]:
    return [event["workers"] for event in server.events("scaled", since=since)]


@pytest.mark.slow
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


class Memory:
    """What the kernel says of the machine's memory, to a server that is started with ``prefix``."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "meminfo"
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        bind = f'mount --bind {self._file} /proc/meminfo && exec "$@"'
        self.prefix = ["unshare", *user, "--mount", "sh", "-c", bind, "sh"]

    def set_free(self, mebibytes: int) -> None:
        """From now on so much is free."""
        self._file.write_text(f"MemTotal: {64 << 20} kB\nMemAvailable: {mebibytes << 10} kB\n")


#: A view that keeps a worker busy for as long as a test wants.
WORKS = """
import time
from pathlib import Path
from django.http import HttpResponse

def works(request):
    while not Path(request.GET["until"]).exists():
        sum(range(20_000))
        time.sleep(0)
    return HttpResponse("done")

urlpatterns += [path("works", works)]
"""


def test_another_worker_waits_until_its_memory_is_free(server: Server, scratch: Path) -> None:
    memory, enough = Memory(scratch), scratch / "enough"
    memory.set_free(8)
    server.project.append(URLS, WORKS)
    server.launch(workers="1..2", timeout=60, prefix=memory.prefix)
    server.wait_for("worker_ready")
    work = server.in_background(f"/works?until={enough}")
    held = server.wait_for("scaling_held")
    assert held["workers"] == 1
    assert "memory is short: 8 MiB free" in held["message"]
    assert wanted(server) == []
    memory.set_free(32 << 10)
    assert server.wait_for("scaled")["workers"] == 2
    server.wait_for("worker_ready", slot=1)
    enough.touch()
    assert work.answer().status == 200

"""A worker that has been taken over ends itself at most: not the arbiter, not a stranger, not another worker."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from djworker.ipc.scoreboard import Gauge, Row
from tests.processes import procfs
from tests.processes.http import Answer
from tests.processes.project import URLS, Project
from tests.processes.server import Server

#: What an attacker does who runs code in a worker: it has the worker's descriptors and memory, and no more.
ATTACKS = """
import _socket, array, fcntl, gc, json, mmap, os, time
from django.http import HttpResponse, JsonResponse

def line():
    from djworker.ipc.channel import Channel
    found = next(item for item in gc.get_objects() if isinstance(item, Channel) and item.fileno() >= 0)
    return _socket.socket(fileno=os.dup(found.fileno()))

def say(request):
    '''Send the packet so many times, with as many descriptors.'''
    sock, packet = line(), bytes.fromhex(request.GET["packet"])
    fds = array.array("i", [0] * int(request.GET.get("fds", 0)))
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)] if fds else []
    times = int(request.GET.get("times", 1))
    while times:
        try:
            sock.sendmsg([packet], rights)
            times -= 1
        except BlockingIOError:
            continue
        except OSError as error:
            return JsonResponse({"refused": error.errno})
    deadline = time.monotonic() + float(request.GET.get("block", 0))
    while time.monotonic() < deadline:
        pass
    return JsonResponse({"refused": 0})

def board(_request):
    '''Spoil every page of the scoreboard that can be reached, and every file behind one.'''
    done = {"mapped": 0, "cut": 0}
    for name in os.listdir("/proc/self/fd"):
        try:
            if "djworker-scoreboard" not in os.readlink("/proc/self/fd/" + name):
                continue
            size = os.fstat(int(name)).st_size
            with mmap.mmap(int(name), size) as page:
                done["mapped"] += size
                page[:] = b"\\x7f" * size
            os.ftruncate(int(name), 0)
            done["cut"] += 1
        except (OSError, ValueError):
            continue
    done["pages"] = sum("djworker-scoreboard" in item and "rw-s" in item for item in open("/proc/self/maps"))
    return JsonResponse(done)

urlpatterns += [path("say", say), path("board", board)]
"""


@pytest.fixture
def attacked(server: Server, project: Project) -> Server:
    project.append(URLS, ATTACKS)
    server.expected.add("worker_boot_failed")
    return server


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is no business of the server's."""
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        yield process
        process.kill()


def packet(text: str) -> str:
    return text.encode().hex()


def test_a_worker_cannot_have_a_stranger_killed(attacked: Server, bystander: subprocess.Popen[bytes]) -> None:
    """It says that the stranger is a worker, then blocks its hub, for which a worker is killed."""
    attacked.start(workers=1, timeout=1)
    claim = packet(f'["WorkerForked",{{"worker_id":1,"pid":{bystander.pid}}}]\n')
    attacked.in_background(f"/say?packet={claim}&block=20")
    refused = attacked.wait_for("message_refused")
    assert refused["pid"] == attacked.events("worker_ready")[0]["pid"]
    assert "a worker may not say WorkerForked" in refused["reason"]
    attacked.wait_for("worker_gone", status=-signal.SIGKILL)
    attacked.wait_for("worker_ready", count=2)
    assert bystander.poll() is None
    assert attacked.get("/raw").status == 200


def test_a_worker_that_never_stops_talking_is_ended_and_the_others_serve_on(attacked: Server) -> None:
    attacked.start()
    known = packet('["FutureThing",{"a":1}]\n')
    attacked.expected.add("unknown_message")
    with attacked.load(clients=2) as load:
        attacked.in_background(f"/say?packet={known}&times=100000&block=20")
        refused = attacked.wait_for("message_refused")
        assert "flood" in refused["reason"]
        attacked.wait_for("worker_ready", count=3)
        load.wait_for_answers()
    assert len(attacked.events("unknown_message")) == 1
    assert len(attacked.ready()) == 2


def test_the_arbiter_takes_no_descriptors(attacked: Server) -> None:
    """They would fill its table, and to close a lingering socket can block."""
    attacked.start(workers=1)
    known = packet('["FutureThing",{"a":1}]\n')
    with attacked.same_descriptors():
        answer = attacked.in_background(f"/say?packet={known}&fds=200").result()
        if isinstance(answer, Answer):  # Linux 6.16 and later: the kernel lets nothing through
            assert answer.json()["refused"] == errno.EPERM
        else:
            attacked.wait_for("message_refused", reason=lambda text: "descriptors" in text)
            attacked.wait_for("worker_ready", count=2)
    assert attacked.get("/raw").status == 200


def test_a_worker_can_spoil_nothing_but_its_own_row(attacked: Server) -> None:
    attacked.start(workers=2)
    spoilt = attacked.get("/board").json()
    assert spoilt["pages"] == 1, "a worker maps its own row"
    assert spoilt["cut"] == 0, "a file that gets shorter ends who reads it"
    victim = attacked.ready()
    rows = [fd for fd, what in procfs.descriptors(attacked.pid).items() if "djworker-scoreboard" in what]
    whole = []
    for fd in rows:
        row = Row(os.open(f"/proc/{attacked.pid}/fd/{fd}", os.O_RDWR))
        whole.append(row[Gauge.PID] in victim)
        row.close()
    assert sorted(whole) in ([False, True], [False, False, True, True]), "one row is spoilt, the other is not"
    attacked.reload()
    assert attacked.get("/raw").status == 200


def test_the_mold_has_no_part_of_the_scoreboard(server: Server) -> None:
    server.start(workers=1)
    assert not [what for what in procfs.descriptors(server.mold()).values() if "scoreboard" in what]
    maps = (procfs.PROC / str(server.mold()) / "maps").read_text()
    assert "scoreboard" not in maps
    own = (procfs.PROC / str(server.worker()) / "maps").read_text()
    assert own.count("djworker-scoreboard") == 1

"""A process that a view forks goes on alone: nothing that waits in the worker is done twice, and nothing of it is held open."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.processes import procfs
from tests.processes.events import eventually
from tests.processes.project import SHOP, URLS, Project, copy_template
from tests.processes.server import Server

#: What each way of forking comes to in the process that forked: as in any program.
WAYS = {
    "process": 0,
    "executor": [0, 1, 4, 9, 16],
    "pool": [0, 1, 4, 9, 16],
    "queue": [[2, 4, 6], 0],
    "fork_and_exit": 3,
    "fork_and_sys_exit": 4,
    "fork_and_exception": 1,
    "short_fork": 5,
    "pty": "from the terminal",
    "forkpty": 6,
    "preexec": "executed\n",
    "thread": [3],
    "thread_that_returns": [0],
    "native_thread": "from a native thread's child\n",
    "gevent": 8,
    "grandchild": 9,
    "spawned_server": [1, 2],
    "manager": {"a": 1, "b": 2},
    "greenlet": 3,
    "async_view": 3,
    "lock": 0,
    "terminate": -signal.SIGTERM,
    "posix_spawn": 2,
}


#: Signals for which a worker has handlers, SIGINT apart.
OURS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)


@pytest.fixture(scope="module")
def shared(template: Path) -> Iterator[Server]:
    """One worker with everybody's requests in it."""
    folder = Path(tempfile.mkdtemp(prefix="dj-"))
    folder.chmod(0o755)
    server = Server(copy_template(template, folder / "shop"), folder)
    server.tracebacks_expected = True
    try:
        server.start(workers=1, keep_alive=30)
        yield server
        server.close()
    finally:
        print(server.story())
        server._end_by_force()
        shutil.rmtree(folder, ignore_errors=True)


class Charge:
    """A request that waits on a kept connection, and must be carried out once."""

    def __init__(self, server: Server) -> None:
        self.id = uuid4().hex
        self.raw = server.raw()
        self.folder = server.project.folder / "begun"

    def begin(self, seconds: float) -> None:
        self.raw.get(f"/fork/charge?id={self.id}&s={seconds}")
        eventually((self.folder / self.id).exists, "the charge begins")

    def check(self) -> None:
        """It was done once, and the connection gives each answer to its own question."""
        assert self.raw.answer().body.decode() == f"charged {self.id}"
        self.raw.get("/raw")
        assert self.raw.answer().body != f"charged {self.id}".encode()
        assert len((self.folder / f"charged-{self.id}").read_text().splitlines()) == 1


@contextmanager
def charged_once(server: Server, seconds: float = 0.3) -> Iterator[None]:
    """Two requests wait meanwhile; the second for longer than anything here takes."""
    charges = [Charge(server), Charge(server)]
    for charge, factor in zip(charges, (1, 3), strict=True):
        charge.begin(seconds * factor)
    yield
    for charge in charges:
        charge.check()


@pytest.mark.parametrize("way", WAYS)
def test_a_fork_in_a_view_repeats_nothing(shared: Server, way: str) -> None:
    worker = shared.worker()
    with charged_once(shared):
        answer = shared.get(f"/fork/by/{way}").json()
    assert answer == {"found": WAYS[way], "pid": worker}
    assert shared.worker() == worker, "the worker was replaced"


def test_a_child_that_returns_answers_no_request(shared: Server) -> None:
    with charged_once(shared):
        raw = shared.raw()
        raw.get("/fork/return")
        assert raw.answer().body == b"the child ended with 0"
        raw.get("/raw")
        assert raw.answer().body != b"answered by the child"


def test_a_mistake_of_a_child_is_its_own(shared: Server) -> None:
    """Django answers it with a page, which has no more business on the wire than any other answer of the child's."""
    with charged_once(shared):
        assert shared.get("/fork/return?raise=1").body == b"the child ended with 0"


def test_a_child_that_returns_into_a_streamed_answer_sends_nothing_of_it(shared: Server) -> None:
    with charged_once(shared):
        assert shared.get("/fork/stream").body == b"first,second"


def number_of(*signals: signal.Signals) -> int:
    """A set of signals as /proc/PID/status shows it."""
    return sum(1 << (number - 1) for number in signals)


def test_a_child_has_nothing_that_the_worker_talks_through(shared: Server) -> None:
    with charged_once(shared):
        found = shared.get("/fork/look").json()
    assert (found["sockets"], found["polls"], found["scoreboards"]) == (0, 0, 0)


def test_a_child_treats_signals_as_any_program_does(shared: Server) -> None:
    masks = shared.get("/fork/look").json()["masks"]
    assert masks["SigBlk"] == 0
    assert not (masks["SigIgn"] | masks["SigCgt"]) & number_of(*OURS)
    assert masks["SigCgt"] & number_of(signal.SIGINT), "Python's own handler, for KeyboardInterrupt"


@pytest.mark.parametrize("by", ["subprocess", "posix_spawn"])
def test_programs_begin_with_the_usual_signals(shared: Server, by: str) -> None:
    lines = shared.get(f"/fork/execute?by={by}").body.decode().splitlines()
    masks = {name: int(mask, 16) for name, _, mask in (line.partition(":") for line in lines[:3])}
    assert masks["SigBlk"] == 0
    # Python itself ignores two more; ``subprocess`` undoes that.
    assert not masks["SigIgn"] & number_of(*OURS, signal.SIGINT)


def test_programs_get_the_limit_of_descriptors_that_the_server_was_started_with(server: Server) -> None:
    server.start(workers=1, prefix=["prlimit", "--nofile=600:900"])
    assert server.get("/fork/execute?by=subprocess").body.split()[-1] == b"600"
    assert server.get("/fork/execute?by=posix_spawn").body.split()[-1] == b"600"
    assert server.get("/fork/look").json()["limit"] == 600
    assert "Max open files            900 " in Path(f"/proc/{server.worker()}/limits").read_text()


def test_a_child_that_outlives_the_server_holds_nothing_of_it(server: Server) -> None:
    """Neither the port nor a client; ``close`` of the fixture looks at the port."""
    server.start(workers=1)
    kept = server.raw()
    kept.get("/raw")
    assert kept.answer().status == 200
    orphan = int(server.get("/fork/orphan").body)
    assert server.listens()
    try:
        server.term()
        assert kept.rest() == b""
        # multiprocessing itself waits for its children when a worker leaves, for as long as exit handlers have.
        assert server.wait() == 0
        assert procfs.alive(orphan)
        assert not server.listens()
    finally:
        os.kill(orphan, signal.SIGKILL)


def test_a_daemon_that_a_view_leaves_outlives_a_reload_and_the_server(server: Server) -> None:
    """It comes to the arbiter, which reaps orphans, and holds nothing back: neither the old worker nor the port."""
    server.start(workers=1)
    old = server.worker()
    daemon = int(server.get("/fork/daemon").body)
    try:
        server.reload()
        server.wait_for("worker_gone", pid=old, status=0)
        assert server.get("/raw").status == 200
        assert procfs.alive(daemon)
        server.term()
        assert server.wait() == 0
        assert procfs.alive(daemon)
        assert not server.listens()
    finally:
        os.kill(daemon, signal.SIGKILL)


def test_a_mold_that_forks_while_it_loads_is_one_mold(project: Project, server: Server) -> None:
    """Also where the child comes back from the project's modules: it ends, and boots nothing."""
    project.append(
        SHOP,
        """
import multiprocessing, os
from pathlib import Path
if "DJWORKER_LAUNCH" in os.environ:
    child = multiprocessing.get_context("fork").Process(target=os.getpid)
    child.start()
    child.join()
    assert child.exitcode == 0
    child = os.fork()
    if child:
        assert os.waitpid(child, 0) == (child, 0)
    else:
        Path("begun/forked").touch()
""",
    )
    server.start(workers=2)
    assert (project.folder / "begun" / "forked").exists()
    assert len(server.events("mold_ready")) == 1
    assert server.get("/raw").status == 200


def test_a_process_that_is_forked_while_the_project_loads_collects_garbage_unless_the_project_does_not(
    project: Project, server: Server
) -> None:
    project.append(
        SHOP,
        """
import gc, multiprocessing, os
from pathlib import Path

def look(name):
    collected = []
    gc.callbacks.append(lambda phase, info: collected.append(phase))
    kept = [[number] for number in range(5000)]
    Path("begun", name).write_text(str(bool(collected)))

def fork(name):
    child = multiprocessing.get_context("fork").Process(target=look, args=(name,))
    child.start()
    child.join()

if "DJWORKER_LAUNCH" in os.environ:
    fork("before")
    gc.disable()
    fork("after")
""",
    )
    server.start(workers=1)
    begun = project.folder / "begun"
    assert [(begun / name).read_text() for name in ("before", "after")] == ["True", "False"]


def test_a_receiver_of_worker_ready_may_fork(project: Project, server: Server) -> None:
    project.append(
        SHOP,
        """
import multiprocessing, time
from pathlib import Path
from django.apps import AppConfig
from djworker.signals import worker_ready

def nap():
    time.sleep(0.3)

def fork(pid, **arguments):
    child = multiprocessing.get_context("fork").Process(target=nap)
    child.start()
    child.join()
    Path("begun", f"forked-{pid}").write_text(str(child.exitcode))

worker_ready.connect(fork)
""",
    )
    server.start(workers=1)
    with charged_once(server):
        forked = project.folder / "begun" / f"forked-{server.worker()}"
        eventually(forked.exists, "the receiver has forked")
    assert forked.read_text() == "0"


DESCRIPTORS = """
def descriptors(request):
    import subprocess
    from django.http import HttpResponse
    done = subprocess.run(["ls", "-l", "/proc/self/fd"], close_fds=False, stdout=subprocess.PIPE)
    return HttpResponse(done.stdout)

urlpatterns += [path("descriptors", descriptors)]
"""


def test_a_program_that_inherits_everything_has_no_socket_and_no_log_of_the_server(
    project: Project, server: Server, scratch: Path
) -> None:
    """So one that outlives the server holds no port, no client, no database and no file of it."""
    project.append(URLS, DESCRIPTORS)
    server.start(workers=1, access_log=str(scratch / "access.log"))
    kept = server.raw()
    held = server.get("/descriptors").body.decode()
    assert "/dev/null" in held or "pipe:" in held
    assert "socket:" not in held
    assert "access.log" not in held
    kept.close()

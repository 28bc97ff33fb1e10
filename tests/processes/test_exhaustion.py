"""What runs out: descriptors, memory, the disk of a log, its reader. Requests go on, and so does the server afterwards."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

from tests.processes import procfs
from tests.processes.events import Event, eventually
from tests.processes.http import Load
from tests.processes.server import Server

MIB = 1 << 20


@contextmanager
def limited(pid: int, kind: int, value: int) -> Iterator[None]:
    """Lower a limit of a running process for a while."""
    limits = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (value, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, kind, limits)


# -- descriptors ------------------------------------------------------------------------------------------------------


def test_a_worker_has_no_descriptors_left(server: Server) -> None:
    """Accepting pauses, tells so at most once a second, does not spin, and goes on when there are some again."""
    server.start(workers=1, keep_alive=60)
    worker = server.worker()
    used = len(procfs.descriptors(worker))
    with limited(worker, resource.RLIMIT_NOFILE, used + 20), ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(server.raw())
        server.wait_for("accept_failed")
        begun, runnable = time.monotonic(), procfs.runnable_seconds(worker)
        server.wait_for("accept_failed", count=4)
        share = (procfs.runnable_seconds(worker) - runnable) / (time.monotonic() - begun)
        times = [seconds(event) for event in server.events("accept_failed")]
        assert all((later - earlier) % 60 > 0.9 for earlier, later in pairwise(times)), times
        assert share < 0.5, f"it spins: it could have run for {share:.0%} of the time"
    assert server.get("/raw").status == 200
    assert server.worker() == worker


def seconds(event: Event) -> float:
    """Within its minute."""
    return float(event["time"][17:26])


def test_the_arbiter_has_no_descriptors_left(server: Server) -> None:
    """It can start nobody, says so, and tries again; whoever serves does so meanwhile."""
    server.expected.add("fork_failed")
    server.start()
    used = max(procfs.descriptors(server.pid))
    with server.load(clients=2) as load:
        with limited(server.pid, resource.RLIMIT_NOFILE, used + 1):
            mark = server.hup()
            server.wait_for("reload_failed", since=mark)
            assert server.wait_for("mold_failed", since=mark)["stage"] == "start"
            load.wait_for_answers()
        server.project.set_version(2)
        server.reload()
        load.wait_for_version(2)
    load.assert_nothing_lost()


# -- memory -----------------------------------------------------------------------------------------------------------


def resident(pid: int) -> int:
    return int(procfs.status(pid)["VmRSS"].split()[0]) * 1024


def test_workers_that_grow_are_replaced_one_at_a_time(server: Server) -> None:
    """Replacement first: no request is lost, and the number of ready workers never dips."""
    server.start()
    server.project.settings(MAX_MEMORY=resident(server.worker()) + 30 * MIB)
    server.reload()
    mark = server.log.mark()
    with server.load(clients=4, path="/drill/hoard") as load:
        wanted = server.wait_for("recycle_wanted", count=3, since=mark)
        assert wanted["reason"] == "max_memory"
        server.wait_for("worker_retired", count=2, since=mark)
        load.wait_for_answers()
    load.assert_nothing_lost()
    assert server.fewest_ready(mark) == 2
    assert not server.events("worker_gone", since=mark, status=lambda status: status != 0)


def test_a_limit_that_no_worker_can_keep_replaces_nobody(server: Server) -> None:
    server.start(workers=1, max_memory="1M", max_requests=1)
    ignored = server.wait_for("max_memory_ignored")
    assert ignored["limit"] == MIB < ignored["fresh"]
    assert server.get("/raw").status == 200
    assert server.wait_for("recycle_wanted")["reason"] == "max_requests"


def test_a_request_that_cannot_have_its_memory_fails_alone(server: Server) -> None:
    server.start(workers=1)
    server.tracebacks_expected = True
    worker = server.worker()
    size = int(procfs.status(worker)["VmSize"].split()[0]) * 1024
    with limited(worker, resource.RLIMIT_AS, size + 100 * MIB):
        assert server.get("/drill/hoard?mib=1000").status == 500
        assert server.get("/raw").status == 200
    assert server.get("/debug/pid").json()["pid"] == worker


# -- logs -------------------------------------------------------------------------------------------------------------


def test_a_full_disk_fails_no_request(server: Server, scratch: Path) -> None:
    """It is told once, and USR1 brings the log back when there is room again."""
    log = scratch / "access.log"
    log.symlink_to("/dev/full")
    server.start(access_log=log, workers=1)
    mark = server.log.mark()
    with server.load(clients=2) as load:
        load.wait_for_answers(100)
    load.assert_nothing_lost()
    assert len(server.events("access_log_lost", since=mark)) == 1
    log.unlink()
    mark = server.send(signal.SIGUSR1)
    server.wait_for("logs_reopened", since=mark)

    def written() -> bool:
        server.get("/raw?after")
        return log.exists() and "/raw?after" in log.read_text()

    eventually(written, "lines in the new file")


def test_a_log_that_nobody_reads_fails_no_request(server: Server) -> None:
    """Standard error is a pipe whose reader has gone."""
    server.start(log_level="debug", workers=1)
    address = server.address
    server.stop_reading()
    with Load(address, clients=2) as load:
        load.wait_for_answers(50)
        server.hup()
        load.wait_for_answers(200)
    load.assert_nothing_lost()


def test_silent_connections_take_no_descriptor_from_a_request(server: Server) -> None:
    """Nor from clients that have been answered; who connects is answered too."""
    server.start(workers=1, prefix=["prlimit", "--nofile=256:256"], keep_alive=60)
    kept = [server.raw() for _ in range(30)]
    for client in kept:
        client.get("/raw")
        assert client.answer().status == 200
    (request,) = server.running("/drill/files?s=1")
    for _ in range(400):
        server.raw()
    assert request.answer().body == b"opened"
    assert server.get("/drill/files?s=0").body == b"opened"
    for client in kept:
        client.get("/raw")
        assert client.answer().status == 200
    assert not server.events("accept_failed")


def test_a_queue_of_silent_connections_is_passed_at_once(server: Server) -> None:
    """They were silent in the kernel's queue for long enough; with half a second for each lot it took six."""
    server.start(workers=1, prefix=["prlimit", "--nofile=160:160"])
    with limited(os.getpid(), resource.RLIMIT_NOFILE, 4096), ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(server.raw())
        time.sleep(0.6)  # no event tells of what waits in the kernel
        begun = time.monotonic()
        assert server.get("/raw").status == 200
        assert time.monotonic() - begun < 3
        # Of those that have only just come, the last.
        stack.enter_context(newcomer := server.raw())
        newcomer.get("/raw")
        assert newcomer.answer().status == 200


def test_accepting_waits_where_every_connection_has_a_request(server: Server) -> None:
    """The kernel keeps the others until there is room; no request is ended for it."""
    server.start(workers=1, prefix=["prlimit", "--nofile=160:160"])
    requests = server.running("/drill/files?s=2", 40)
    more = [server.in_background("/drill/files?s=2") for _ in range(60)]
    server.wait_for("connections_full")
    for request in (*requests, *more):
        assert request.answer().body == b"opened"
    assert not server.events("accept_failed")


def test_workers_are_replaced_at_their_age_without_a_lost_request(server: Server) -> None:
    server.start(max_lifetime=3)
    mark = server.log.mark()
    with server.load() as load:
        wanted = server.wait_for("recycle_wanted", count=2, since=mark)
        assert wanted["reason"] == "max_lifetime"
        server.wait_for("worker_gone", count=2, since=mark)
        load.wait_for_answers()
    load.assert_nothing_lost()
    assert server.fewest_ready(mark) == 2

"""What we ask of the operating system, asked of it. Children are real and short-lived."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from djworker import process

LINUX = sys.platform == "linux"


def run(code: str, **environ: str) -> str:
    """Python in a process of its own: most of this cannot be undone."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environ},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_dead_child_is_reaped() -> None:
    code = """
import os, signal
from djworker import process
assert process.reap() == []
pids = {os.posix_spawn("/bin/sh", ["sh", "-c", command], {}): status
        for command, status in (("exit 0", 0), ("exit 3", 3), ("kill -9 $$", -9))}
found = {}
while len(found) < 3:
    found.update(process.reap())
assert found == pids, found
assert process.reap() == []
"""
    run(code)


@pytest.mark.skipif(not LINUX, reason="only Linux has subreapers")
def test_orphans_come_to_the_subreaper() -> None:
    code = """
import os, time
from djworker import process
assert process.become_subreaper()
r, w = os.pipe()
if not os.fork():
    if not os.fork():
        process.wait_for_parent(int(os.environ["TOP"]) if "TOP" in os.environ else os.getppid())
        os.write(w, b"x")
        os._exit(5)
    os._exit(0)
os.read(r, 1)
found = []
while len(found) < 2:
    found += [status for _, status in process.reap()]
assert sorted(found) == [0, 5], found
"""
    run(code)


def test_no_subreaper_on_request() -> None:
    assert run("from djworker import process; print(process.become_subreaper())", _DJWORKER_NO_SUBREAPER="1") == "False"


def test_somebody_else_adopted_us() -> None:
    with pytest.raises(TimeoutError, match="not by the arbiter"):
        process.wait_for_parent(2**22 + 1, limit=0.01)


@pytest.mark.skipif(not LINUX, reason="only Linux has a parent-death signal")
def test_we_die_with_our_parent() -> None:
    code = """
import os, signal, sys
from djworker import process
process.become_subreaper()
r, w = os.pipe()
middle = os.fork()
if not middle:
    os.close(r)
    parent = os.getpid()
    if not os.fork():
        process.die_with(parent)
        os.write(w, b"x")
        os.close(w)
        signal.pause()
    os.close(w)
    signal.pause()
os.close(w)
os.read(r, 1)
os.kill(middle, signal.SIGKILL)
statuses = []
while len(statuses) < 2:
    statuses += [status for _, status in process.reap()]
assert statuses == [-9, -9], statuses
"""
    run(code)


@pytest.mark.skipif(not LINUX, reason="only Linux has a parent-death signal")
def test_a_parent_that_is_gone_already() -> None:
    pid = os.fork()
    if not pid:
        process.die_with(2**22 + 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_a_signal_to_a_process_that_is_gone() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    process.kill(gone.pid, signal.SIGTERM)


def test_the_soft_limit_of_descriptors_becomes_the_hard_one() -> None:
    code = """
import resource
from djworker import process
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
process.raise_descriptor_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    raised = int(run(code))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert raised > 100
    assert hard in (raised, resource.RLIM_INFINITY) or raised < hard


@pytest.mark.parametrize("status, text", [(0, "exit code 0"), (3, "exit code 3"), (-9, "SIGKILL"), (-11, "SIGSEGV")])
def test_exit_statuses_in_words(status: int, text: str) -> None:
    assert process.describe(status) == text


def test_a_thread_that_computes_is_seen_to_be_busy() -> None:
    """The kernel counts what it ran and what it waited for a processor; what it slept is neither."""
    before = process.runnable_seconds(os.getpid())
    assert before is not None
    end = time.thread_time() + 0.05
    while time.thread_time() < end:
        pass
    after = process.runnable_seconds(os.getpid())
    assert after is not None
    assert after - before >= 0.04
    assert process.runnable_seconds(1 << 30) is None

"""Starting and ending real processes, and telling our own from other people's orphans."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from djworker.arbiter.child import Child
from djworker.arbiter.children import Children, spawn
from djworker.arbiter.commands import ForkWorker
from djworker.arbiter.intake import MessageRefusedError
from djworker.conf.table import Config
from djworker.ipc import messages
from djworker.ipc.channel import Channel
from djworker.ipc.launch import Launch
from djworker.ipc.scoreboard import Gauge, Phase, Row

LAUNCH = Launch("no.settings", (), "/", {}, (), Config(), "test")
#: Above every pid that Linux gives out.
NOBODY = 2**22 + 1


@pytest.fixture
def children() -> Iterator[Children]:
    made = Children(LAUNCH, [], subreaper=True)
    yield made
    for key in list(made.by_key):
        made.forget(key)


def with_mold(children: Children) -> Channel:
    ours, theirs = Channel.pair()
    ours.set_blocking(False)
    children.by_key["mold", 1] = Child(("mold", 1), NOBODY, ours)
    return theirs


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A child of this process, alive until the end of the test."""
    pid = spawn(["/bin/sleep", "600"], {}, ())
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def python(code: str, inherited: tuple[int, ...] = ()) -> int:
    return spawn([sys.executable, "-c", code], dict(os.environ), inherited)


def test_a_child_inherits_what_it_is_given_and_nothing_else() -> None:
    given, kept = os.pipe()
    other, another = os.pipe()
    pid = python(f"import os; os.write({kept}, str(sorted(map(int, os.listdir('/dev/fd')))).encode())", (kept,))
    os.close(kept)
    with os.fdopen(given, "rb") as pipe:
        seen = set(map(int, pipe.read().decode().strip("[]").split(",")))
    assert kept in seen
    assert not seen & {other, another, given}
    assert os.waitpid(pid, 0)[1] == 0
    os.close(other)
    os.close(another)


def test_a_child_starts_with_the_default_signals() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    code = (
        "import signal, sys; sys.exit(signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL"
        " or bool(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
    )
    try:
        pid = python(code)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        signal.signal(signal.SIGTERM, before)
    assert os.waitpid(pid, 0)[1] == 0


def test_an_interpreter_that_is_gone() -> None:
    given, kept = os.pipe()
    with pytest.raises(FileNotFoundError):
        spawn(["/no/such/python"], {}, (kept,))
    assert not os.get_inheritable(kept)
    os.close(given)
    os.close(kept)


def test_a_worker_is_asked_for_and_claimed(children: Children, sleeper: int) -> None:
    mold = with_mold(children)
    child = children.spawn_worker(ForkWorker(worker_id=5, slot=3, generation=1))
    received = mold.receive()
    assert received.messages == [messages.SpawnWorker(5, 3)]
    assert (child.pid, child.slot) == (0, 3)
    assert (child.reads(Gauge.GENERATION), child.reads(Gauge.PHASE)) == (1, Phase.STARTING)
    assert children.beat_of(5) > 0
    assert children.claim(("worker", 5), sleeper) is None
    assert children.by_pid(sleeper) is child
    assert children.workers() == [child]
    worker, row = Channel.from_fd(received.fds[0]), Row(received.fds[1])
    worker.send(messages.WorkerReady())
    assert child.channel is not None
    assert child.channel.receive().messages == [messages.WorkerReady()]
    row[Gauge.REQUESTS] = 7
    assert child.reads(Gauge.REQUESTS) == 7
    row.close()
    worker.close()
    mold.close()


def test_a_worker_that_died_before_we_knew_its_pid(children: Children) -> None:
    mold = with_mold(children)
    children.spawn_worker(ForkWorker(5, 0, 1))
    children.keep_unclaimed(4711, -9)
    assert children.claim(("worker", 5), 4711) == -9
    assert children.unclaimed == {}
    mold.close()


@pytest.mark.parametrize(
    "pid",
    [1, os.getpid(), os.getppid(), NOBODY, 0, -1, 2**31 - 1, 2**63],
    ids=["init", "ourselves", "our parent", "free", "zero", "all", "greatest", "too great"],
)
def test_a_pid_is_believed_only_where_the_kernel_calls_it_our_child(children: Children, pid: int) -> None:
    mold = with_mold(children)
    child = children.spawn_worker(ForkWorker(5, 0, 1))
    with pytest.raises(MessageRefusedError, match="is not worker 5"):
        children.claim(("worker", 5), pid)
    assert child.pid == 0
    child.row[Gauge.PID] = min(pid, 2**63 - 1)  # type: ignore[index]
    assert children.learn_pid(child) is None
    assert child.pid == 0
    children.kill(("worker", 5))  # it has no pid, so nobody is hit: this test would not end
    mold.close()


def test_the_pid_of_another_child_is_not_believed(children: Children, sleeper: int) -> None:
    """It is ours, and the signal that one of the two deserves would hit the other."""
    mold = with_mold(children)
    children.spawn_worker(ForkWorker(5, 0, 1))
    other = children.spawn_worker(ForkWorker(6, 1, 1))
    children.claim(("worker", 5), sleeper)
    children.claim(("worker", 5), sleeper)
    for key, pid in ((("worker", 6), sleeper), (("worker", 5), NOBODY)):
        with pytest.raises(MessageRefusedError):
            children.claim(key, pid)  # type: ignore[arg-type]
    assert other.pid == 0
    mold.close()


def test_a_beat_in_the_future_counts_as_now(children: Children) -> None:
    """Else a worker could exempt itself from its own deadline for ever."""
    mold = with_mold(children)
    child = children.spawn_worker(ForkWorker(5, 0, 1))
    assert child.row is not None
    for beat in (2**63 - 1, time.monotonic_ns() + 10**12):
        child.row[Gauge.BEAT] = beat
        assert children.beat_of(5) <= time.monotonic()
    mold.close()


def test_a_child_that_is_reaped_is_not_signalled(children: Children, sleeper: int) -> None:
    """The kernel may have given its pid to a stranger."""
    child = children.by_key["worker", 5] = Child(("worker", 5), sleeper)
    child.reaped = True
    children.kill(("worker", 5))
    children.by_key["worker", 6] = Child(("worker", 6), doomed=True)
    del children.by_key["worker", 5]
    children.unclaimed[sleeper] = -9
    assert children.claim(("worker", 6), sleeper) == -9
    with pytest.raises(TimeoutError):
        wait_for_end(sleeper)


def wait_for_end(pid: int, limit: float = 0.1) -> None:
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.01)
    raise TimeoutError


def test_orphans_of_others_are_not_remembered(children: Children) -> None:
    children.by_key["worker", 5] = Child(("worker", 5), NOBODY)
    children.keep_unclaimed(4711, 3)
    assert children.unclaimed == {}


def test_a_worker_that_was_doomed_before_its_pid_was_known_dies_then(children: Children) -> None:
    children.by_key["worker", 5] = Child(("worker", 5))
    children.kill(("worker", 5))
    pid = python("import time; time.sleep(60)")
    children.claim(("worker", 5), pid)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_the_pid_of_a_worker_whose_mold_died_is_on_the_scoreboard(children: Children, sleeper: int) -> None:
    mold = with_mold(children)
    child = children.spawn_worker(ForkWorker(5, 0, 1))
    assert children.learn_pid(child) is None
    assert child.pid == 0
    assert child.row is not None
    child.row[Gauge.PID] = sleeper
    children.learn_pid(child)
    assert child.pid == sleeper
    mold.close()


def test_what_is_forgotten_leaves_no_trace(children: Children) -> None:
    before = set(Path("/dev/fd").iterdir())
    mold = with_mold(children)
    child = children.spawn_worker(ForkWorker(5, 0, 1))
    children.forget(("worker", 5))
    children.forget(("worker", 5))
    assert child.channel is not None
    assert child.channel.fileno() == -1
    assert child.row is not None
    assert child.row.fileno() == -1
    assert children.beat_of(5) == 0
    children.kill(("worker", 5))
    children.forget(("mold", 1))
    mold.close()
    assert set(Path("/dev/fd").iterdir()) == before


def test_a_mold_that_cannot_be_started_leaves_no_descriptor(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(Path("/dev/fd").iterdir())
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(FileNotFoundError):
        children.boot_mold(1)
    assert set(Path("/dev/fd").iterdir()) == before
    assert children.by_key == {}


def test_hanging_up_is_eof(children: Children) -> None:
    mold = with_mold(children)
    children.hang_up(("mold", 1))
    children.hang_up(("mold", 1))
    assert mold.receive().eof
    mold.close()

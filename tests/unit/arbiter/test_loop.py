"""The edge around the fleet: real channels and signals; the processes are the ones that cannot be started."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Iterator

import pytest

from djworker import log
from djworker.arbiter import snapshot
from djworker.arbiter.child import Child
from djworker.arbiter.children import Children
from djworker.arbiter.commands import ForkWorker
from djworker.arbiter.events import MoldBooted, Reload, Started
from djworker.arbiter.fleet import Fleet
from djworker.arbiter.handles import MoldState
from djworker.arbiter.loop import Loop, policy_of
from djworker.arbiter.signal_queue import Signals
from djworker.arbiter.systemd import Systemd
from djworker.conf.table import Config
from djworker.ipc import messages
from djworker.ipc.channel import Channel
from djworker.ipc.launch import Launch
from djworker.ipc.scoreboard import Gauge

CONFIG = Config(workers=1)
LAUNCH = Launch("no.settings", (), "/", {}, (), CONFIG, "test")
#: Above every pid that Linux gives out (PID_MAX_LIMIT), so nobody is ever hit by accident.
PID = 2**22 + 1


class Edge:
    """A loop with one mold, generation 1, whose other end is ours."""

    def __init__(self, environ: dict[str, str] | None = None) -> None:
        self.children = Children(LAUNCH, [], subreaper=True)
        self.fleet = Fleet(policy_of(CONFIG))
        self.signals = Signals()
        self.loop = Loop(self.fleet, self.children, CONFIG, Systemd(environ or {}, os.getpid()), self.signals)
        ours, self.mold = Channel.pair()
        ours.set_blocking(False)
        self.fleet.handle(Started(), time.monotonic())
        self.children.by_key["mold", 1] = Child(("mold", 1), PID, ours)

    def worker(self) -> Child:
        """The fleet's one worker, asked for and not yet forked."""
        self.fleet.handle(MoldBooted(1, self.fleet.policy), time.monotonic())
        return self.children.spawn_worker(ForkWorker(1, 0, 1))

    def close(self) -> None:
        self.mold.close()
        for key in list(self.children.by_key):
            self.children.forget(key)
        self.loop._selector.close()
        self.loop.observer.history.close()
        for end in (self.signals._wake, self.signals._wakeup):
            end.close()


@pytest.fixture
def edge() -> Iterator[Edge]:
    edge = Edge()
    yield edge
    edge.close()


class Said(list[str]):
    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        super().__init__()
        self._capfd = capfd

    def read(self) -> list[str]:
        lines = self._capfd.readouterr().err.splitlines()
        self += [json.loads(line)["event"] for line in lines if line.startswith("{")]
        return self


@pytest.fixture
def events(capfd: pytest.CaptureFixture[str]) -> Iterator[Said]:
    """Names of the events said so far, once ``read`` by the test."""
    log.configure("info", "json", "arbiter")
    yield Said(capfd)
    log.configure("info", "text", "test")


def test_a_reload_that_cannot_start_a_process_leaves_the_site_as_it_is(
    edge: Edge, events: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = edge.worker()
    edge.loop._on_worker_ready(child)
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    edge.loop.happen(Reload())
    assert edge.fleet.current == 1
    assert edge.fleet.processes.molds[1].state is MoldState.READY
    assert edge.fleet.ready_count() == 1
    assert not edge.fleet.rollout.begun
    assert [name for name in events.read() if "reload" in name or "failed" in name] == [
        "reload_started",
        "mold_failed",
        "reload_failed",
    ]


def test_a_worker_whose_mold_died_before_it_told_the_pid_is_known_all_the_same(edge: Edge) -> None:
    """The kernel says who sent its first word. Here that is a fork of ours."""
    child = edge.worker()
    (received,) = [edge.mold.receive()]
    pid = os.fork()
    if not pid:
        Channel.from_fd(received.fds[0]).send(messages.WorkerReady())
        signal.pause()
    eventually_heard(edge, child)
    assert child.pid == pid
    assert edge.fleet.ready_count() == 1
    edge.children.kill(child.key)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    close_all(received.fds)


def eventually_heard(edge: Edge, child: Child) -> None:
    assert child.channel is not None
    select.select([child.channel], [], [], 10)
    edge.loop._listen(child)


def close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def test_it_is_buried_with_its_own_status_when_it_was_reaped_before_anybody_knew_it(edge: Edge) -> None:
    child = edge.worker()
    assert child.row is not None
    child.row[Gauge.PID] = PID + 1
    edge.children.keep_unclaimed(PID + 1, -11)
    edge.loop._bury_nameless(child)
    assert ("worker", 1) not in edge.children.by_key
    assert not edge.fleet.processes.workers
    assert not edge.children.unclaimed


def test_a_status_is_claimed_even_for_a_worker_that_is_buried(edge: Edge) -> None:
    """Left over, it would bury the next worker that gets this pid, alive."""
    edge.children.unclaimed[PID + 1] = 1
    edge.loop._on_forked(1, 99, PID + 1)
    assert not edge.children.unclaimed


def test_a_configuration_goes_with_its_mold(edge: Edge) -> None:
    edge.loop._on_mold_ready(edge.children.by_key["mold", 1], CONFIG)
    assert 1 in edge.loop.offered
    edge.loop._bury(edge.children.by_key["mold", 1], -9)
    assert edge.loop.offered == {}


def test_no_ping_is_due_while_there_is_nothing_to_vouch_for() -> None:
    """A ping that is due and is not sent would keep the loop from sleeping: through the boot, through the drain."""
    edge = Edge({"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "2000000"})
    edge.loop.reporter.report(edge.loop.children.beat_of)
    assert (edge.loop._time_left() or 0) > 1
    edge.loop._on_worker_ready(edge.worker())
    assert edge.loop._time_left() == 0, "the first is due at once"
    edge.loop.reporter.report(edge.loop.children.beat_of)
    assert 0 < (edge.loop._time_left() or 0) <= 1
    edge.close()


def test_what_came_with_usr2_is_served_first(edge: Edge) -> None:
    order: list[str] = []
    edge.loop.reexec = lambda loop: order.append("stopping" if loop.fleet.stopping else "serving")
    edge.signals.note([signal.SIGUSR2, signal.SIGTERM])
    edge.loop._serve_signals()
    assert order == ["stopping"]


def test_what_comes_during_the_rehearsal_travels_with_the_state(edge: Edge) -> None:
    edge.signals.note([signal.SIGTERM, signal.SIGTTIN, signal.SIGTTIN])
    edge.children.unclaimed[PID + 1] = -9
    state = snapshot.Snapshot(snapshot.take(edge.loop))
    assert state.signals == [signal.SIGTERM, signal.SIGTTIN, signal.SIGTTIN]


def test_an_adopted_channel_is_not_for_the_next_mold(edge: Edge) -> None:
    copy = os.dup(edge.mold.fileno())
    os.set_inheritable(copy, True)
    child = snapshot._child_from_json(
        {"kind": "worker", "number": 1, "pid": PID, "channel": copy, "slot": 0, "row": None, "doomed": False}
    )
    assert child.channel is not None
    assert not os.get_inheritable(child.channel.fileno())
    child.channel.close()

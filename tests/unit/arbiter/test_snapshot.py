"""USR2's state: what is written is what is read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djworker.arbiter import events, snapshot
from djworker.arbiter.child import Child
from djworker.arbiter.children import Children
from djworker.arbiter.fleet import Fleet
from djworker.arbiter.handles import Policy
from djworker.arbiter.listeners import Listener, adopt, open_listeners
from djworker.arbiter.loop import Loop, policy_of
from djworker.arbiter.signal_queue import Signals
from djworker.arbiter.snapshot import Snapshot, SnapshotError
from djworker.arbiter.systemd import Systemd
from djworker.conf.address import Address
from djworker.conf.table import Config
from djworker.ipc.channel import Channel
from djworker.ipc.launch import Launch
from djworker.ipc.scoreboard import Gauge, Row

CONFIG = Config(workers=2, bind=("127.0.0.1:0",))
LAUNCH = Launch("no.settings", (), "/", {}, (), CONFIG, "test")


@pytest.fixture
def loop() -> Iterator[Loop]:
    """An arbiter with a mold and a worker, whose other ends are ours."""
    listeners = open_listeners([Address.parse("127.0.0.1:0")], 10)
    children = Children(LAUNCH, listeners, subreaper=True)
    ends = []
    for key, pid, slot in ((("mold", 1), 101, -1), (("worker", 1), 102, 0), (("worker", 2), 0, 1)):
        ours, theirs = Channel.pair()
        ends.append(theirs)
        row = Row.create() if slot >= 0 else None
        children.by_key[key] = Child(key, pid, ours, slot, row)  # type: ignore[index,arg-type]
    children.unclaimed[103] = -9
    fleet = Fleet(policy_of(CONFIG))
    fleet.handle(events.Started(), 10.0)
    fleet.handle(events.MoldBooted(1, fleet.policy), 11.0)
    fleet.handle(events.WorkerBooted(1), 12.0)
    signals = Signals()
    made = Loop(fleet, children, CONFIG, Systemd({}, os.getpid()), signals)
    made.offered[1] = CONFIG
    made.systemd.ready = True
    yield made
    made._selector.close()
    made.observer.history.close()
    signals._wake.close()
    signals._wakeup.close()
    for end in ends:
        end.close()
    for key in list(children.by_key):
        children.forget(key)
    for listener in listeners:
        listener.close()


def copies(text: str) -> str:
    """The state with every descriptor duplicated, as an exec would hand them over."""
    state = json.loads(text)
    state["listeners"] = [(os.dup(fd), address, unlink) for fd, address, unlink in state["listeners"]]
    fds = [state["listeners"][0][0]]
    for child in state["children"]:
        for name in ("channel", "row"):
            if child[name] is not None:
                child[name] = os.dup(child[name])
                fds.append(child[name])
    for fd in fds:
        os.set_inheritable(fd, True)
    return json.dumps(state)


def test_everything_crosses_the_exec(loop: Loop) -> None:
    loop.signals.note([1, 15])
    read = Snapshot(copies(snapshot.take(loop)))
    assert read.config == CONFIG
    assert read.offered == {1: CONFIG}
    assert read.systemd_ready
    assert read.signals == [1, 15]
    assert read.fleet.processes == loop.fleet.processes
    assert read.fleet.policy == loop.fleet.policy
    assert (read.fleet.current, read.fleet.ever_ready) == (1, True)
    adopted = read.children(LAUNCH, subreaper=True)
    expected = {("mold", 1): (101, -1), ("worker", 1): (102, 0), ("worker", 2): (0, 1)}
    assert {key: (child.pid, child.slot) for key, child in adopted.by_key.items()} == expected
    assert adopted.unclaimed == {103: -9}
    ours, theirs = (children.by_key["worker", 1].row for children in (loop.children, adopted))
    assert ours is not None
    assert theirs is not None
    ours[Gauge.REQUESTS] = 7
    assert theirs[Gauge.REQUESTS] == 7, "it is the same memory"
    assert not os.get_inheritable(theirs.fileno())
    assert adopted.listeners[0].sock.getsockname() == loop.children.listeners[0].sock.getsockname()
    for child in adopted.by_key.values():
        assert child.channel is not None
        assert not os.get_inheritable(child.channel.fileno()), "the next mold must not hold an EOF back"
        child.close()
    for listener in adopted.listeners:
        listener.close()


def test_all_descriptors_are_kept(loop: Loop) -> None:
    kept = snapshot.descriptors(loop)
    channels = {child.channel.fileno() for child in loop.children.by_key.values() if child.channel is not None}
    rows = {child.row.fileno() for child in loop.children.by_key.values() if child.row is not None}
    assert len(rows) == 2
    history = loop.observer.history.fileno()
    assert set(kept) == channels | rows | {loop.children.listeners[0].sock.fileno(), history}


def test_a_child_that_was_hung_up_on(loop: Loop) -> None:
    loop.children.hang_up(("mold", 1))
    state = json.loads(snapshot.take(loop))
    assert state["children"][0]["channel"] is None
    assert len(snapshot.descriptors(loop)) == 6


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"version": 999}', '{"version": 1}'])
def test_what_is_no_state_is_refused(text: str) -> None:
    with pytest.raises(SnapshotError):
        Snapshot(text)


def test_reading_touches_no_descriptor(loop: Loop) -> None:
    """The rehearsal reads a state whose descriptors it does not have."""
    state = json.loads(snapshot.take(loop))
    state["listeners"][0][0] = state["children"][1]["row"] = 4000
    assert Snapshot(json.dumps(state)).fleet.current == 1


@given(st.lists(st.sampled_from(["ready", "gone", "reload", "mold", "lost", "timer", "scale", "stop"]), max_size=25))
def test_a_fleet_in_any_state_decides_the_same_afterwards(steps: list[str]) -> None:
    """Two fleets that are told the same story, one of which was written and read half way."""
    fleet = Fleet(Policy(2, 30, 60, 30))
    now = 100.0
    fleet.handle(events.Started(), now)
    for step in steps:
        now += 0.7
        tell(fleet, step, now)
    copy = snapshot._fleet_from_json(json.loads(json.dumps(snapshot._fleet_to_json(fleet))))
    copy._exit_code = fleet._exit_code
    for step in ("timer", "ready", "reload", "mold", "gone", "timer"):
        now += 0.7
        fleet.expect(inf)
        copy.expect(inf)
        assert tell(copy, step, now) == tell(fleet, step, now)
    assert copy.next_deadline() == fleet.next_deadline()


def tell(fleet: Fleet, step: str, now: float) -> object:
    processes = fleet.processes
    event: events.Event = events.DeadlineReached()
    with suppress(StopIteration):
        if step == "ready":
            event = events.WorkerBooted(next(worker.worker_id for worker in processes.starting()))
        elif step == "gone":
            event = events.WorkerGone(next(iter(processes.workers)), 1)
        elif step == "mold":
            event = events.MoldBooted(next(mold.generation for mold in processes.booting_molds()), fleet.policy)
        elif step == "lost":
            event = events.MoldGone(next(iter(processes.molds)), 1)
        elif step in ("reload", "scale", "stop"):
            told: dict[str, events.Event] = {
                "reload": events.Reload(),
                "scale": events.Scale(1),
                "stop": events.Stop(fast=False),
            }
            event = told[step]
    return fleet.handle(event, now)


def test_a_socket_of_our_own_is_still_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (listener,) = open_listeners([Address.parse(f"unix:{path}")], 10)
    entry = json.loads(json.dumps((listener.sock.fileno(), str(listener.address), listener.unlink)))
    again = Listener(adopt(os.dup(entry[0])), Address.parse(entry[1]), tuple(entry[2]))
    again.close()
    assert not path.exists()
    listener.sock.close()

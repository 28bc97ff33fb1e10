"""What the arbiter believes: who may say what, how often and about whom. Real channels, real processes on the other end."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from djworker import log
from djworker.arbiter.child import Key
from djworker.arbiter.handles import WorkerState
from djworker.arbiter.intake import BURST, MAY_SAY, RATE, Intake, MessageRefusedError
from djworker.conf.table import Config
from djworker.ipc import messages
from djworker.ipc.channel import Channel, Received
from djworker.ipc.scoreboard import Gauge
from tests.unit.arbiter.liar import CONFIG, Arbiter, Relay, alive, line_of, stranger


@pytest.fixture
def arbiter() -> Iterator[Arbiter]:
    made = Arbiter()
    yield made
    made.close()


@pytest.fixture
def bystander() -> Iterator[int]:
    pid = stranger()
    yield pid
    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The events so far."""
    log.configure("info", "json", "arbiter")
    yield lambda: [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    log.configure("info", "text", "test")


def only_liar_ended(arbiter: Arbiter, liar: Key) -> bool:
    others = {key: pid for key, pid in arbiter.pids.items() if key != liar}
    assert arbiter.loop.exit_code is None
    assert all(alive(pid) for pid in others.values()), "another child was hit"
    assert all(arbiter.children.by_key[key].pid == pid for key, pid in others.items()), "another child was misjudged"
    return liar not in arbiter.children.by_key


LIES = {
    "a worker speaks for the mold": (("worker", 1), messages.WorkerForked(2, 4711)),
    "a worker says that a fork failed": (("worker", 1), messages.ForkFailed(2, "no")),
    "a worker offers a configuration": (("worker", 1), messages.MoldReady({})),
    "a worker tells us to spawn": (("worker", 1), messages.SpawnWorker(3, 1)),
    "a worker has us reload": (("worker", 1), messages.FilesChanged(["/x"])),
    "a worker speaks for us": (("worker", 1), messages.Retire(0.0, empty_backlog=True)),
    "a mold is ready like a worker": (("mold", 1), messages.WorkerReady()),
    "a mold has us recycle": (("mold", 1), messages.RecycleWanted("x")),
    "a mold speaks of another's worker": (("mold", 2), messages.WorkerForked(1, 1)),
    "a mold buries a living worker": (("mold", 1), messages.ForkFailed(1, "no")),
    "a mold buries another's worker": (("mold", 2), messages.ForkFailed(1, "no")),
    "a mold renames a living worker": (("mold", 1), messages.WorkerForked(1, 1)),
    "a reloader is ready": (("helper", 0), messages.WorkerReady()),
    "a reloader forks": (("helper", 0), messages.WorkerForked(1, 1)),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_ends_the_liar_and_no_one_else(
    arbiter: Arbiter, said: Callable[[], list[dict[str, Any]]], name: str
) -> None:
    liar, message = LIES[name]
    arbiter.hear(liar, [line_of(message)])  # type: ignore[arg-type]
    assert only_liar_ended(arbiter, liar)  # type: ignore[arg-type]
    (refused,) = [event for event in said() if event["event"] == "message_refused"]
    assert (refused["child"], refused["level"]) == (liar[0], "error")
    assert type(message).__name__ in refused["text"]


GARBAGE = {
    "not JSON": b"hello\n",
    "nothing at all": b"",
    "no line": b'["WorkerReady",{}]',
    "two lines": b'["WorkerReady",{}]\n["WorkerReady",{}]\n',
    "a wrong type": b'["RecycleWanted",{"reason":5}]\n',
    "a name that is none": b'[["WorkerReady"],{}]\n',
    "nested deeply": b"[" * 100_000 + b"\n",
    "no number": b'["RecycleWanted",{"reason":NaN}]\n',
    "longer than a packet": b'["RecycleWanted",{"reason":"' + b"x" * 300_000 + b'"}]\n',
}


@pytest.mark.parametrize("name", GARBAGE)
@pytest.mark.parametrize("liar", [("worker", 1), ("mold", 1), ("mold", 2), ("helper", 0)])
def test_what_is_no_message_ends_its_sender(arbiter: Arbiter, liar: Key, name: str) -> None:
    arbiter.theirs[liar].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    arbiter.hear(liar, [GARBAGE[name]])
    if name == "nothing at all":  # without the kernel's word about the sender, it looks like the end
        assert not only_liar_ended(arbiter, liar)
    else:
        assert only_liar_ended(arbiter, liar)


@pytest.mark.parametrize(
    "config",
    [
        {"workers": "many"},
        {"workers": -1},
        {"workers": 10**9},
        {"timeout": None},
        {"timeout": "for ever"},
        {"log_level": "loud"},
        {"log_level": 7},
        {"bind": [1, None]},
        {"graceful_timeout": -5},
        {"access_log_format": 5},
    ],
)
def test_a_mold_cannot_offer_a_configuration_that_no_option_takes(arbiter: Arbiter, config: dict[str, object]) -> None:
    arbiter.hear(("mold", 2), [line_of(messages.MoldReady({**CONFIG.to_json(), **config}))])
    assert only_liar_ended(arbiter, ("mold", 2))
    assert arbiter.loop.config == CONFIG
    assert arbiter.fleet.current == 1


def test_root_makes_no_file_that_a_mold_asks_for(arbiter: Arbiter, tmp_path: Path) -> None:
    """Neither when it is offered nor when the logs are reopened: the workers open it, with their own rights."""
    offered = {**CONFIG.to_json(), "access_log": str(tmp_path / "x.log"), "pid": str(tmp_path / "pid"), "user": "0"}
    arbiter.hear(("mold", 2), [line_of(messages.MoldReady(offered))])
    assert not only_liar_ended(arbiter, ("mold", 2))
    assert arbiter.loop.config.access_log == str(tmp_path / "x.log"), "the option itself can be reloaded"
    assert (arbiter.loop.config.pid, arbiter.loop.config.user) == (None, None), "these cannot"
    arbiter.loop._reopen_logs()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "message", [messages.WorkerReady(), messages.RecycleWanted("x"), messages.WorkerBootFailed("", "")]
)
def test_what_is_said_once_is_not_said_twice(arbiter: Arbiter, message: messages.Message) -> None:
    arbiter.hear(("worker", 1), [line_of(message)])
    assert not only_liar_ended(arbiter, ("worker", 1))
    arbiter.hear(("worker", 1), [line_of(message)])
    assert only_liar_ended(arbiter, ("worker", 1))


def test_another_version_is_told_of_once_and_lives_on(
    arbiter: Arbiter, said: Callable[[], list[dict[str, Any]]]
) -> None:
    arbiter.hear(("worker", 1), [b'["Future",{"a":1}]\n', b'["WorkerReady",{"since":1}]\n', b'["Future",{"a":1}]\n'])
    arbiter.hear(("worker", 1), [line_of(messages.RecycleWanted("max_requests"))])
    assert not only_liar_ended(arbiter, ("worker", 1))
    names = [event["event"] for event in said()]
    assert (names.count("unknown_message"), names.count("recycle_wanted")) == (1, 1)


def test_a_fault_of_ours_ends_the_child_that_provoked_it(
    arbiter: Arbiter, said: Callable[[], list[dict[str, Any]]]
) -> None:
    child, handle = arbiter.children.by_key["worker", 1], arbiter.fleet.processes.workers.pop(1)
    arbiter.theirs["worker", 1].send(line_of(messages.RecycleWanted("x")))
    arbiter.loop._listen(child)  # a child without a handle: what none should be able to bring about
    (refused,) = [event for event in said() if event["event"] == "message_refused"]
    assert "KeyError" in refused["reason"]
    assert "Traceback" in refused["traceback"]
    arbiter.fleet.processes.workers[1] = handle
    arbiter.bury(child)
    assert only_liar_ended(arbiter, ("worker", 1))


# -- who speaks -------------------------------------------------------------------------------------------------------


class Forked:
    """A worker that the mold has forked: a process of its own at the other end of a channel."""

    def __init__(self, arbiter: Arbiter) -> None:
        self.arbiter = arbiter
        self.child, fds = arbiter.nameless()
        self.line, row = fds
        self.relay = Relay(self.line)
        os.close(row)

    def says(self, packet: bytes, fds: int = 0) -> None:
        self.relay.say(packet, fds)
        assert self.child.channel is not None
        assert select.select([self.child.channel], [], [], 20)[0]
        self.arbiter.loop._listen(self.child)

    def close(self) -> None:
        self.arbiter.children.forget(self.child.key)
        os.close(self.line)
        os.kill(self.relay.pid, signal.SIGKILL)
        self.relay.end()


@pytest.fixture
def forked(arbiter: Arbiter) -> Iterator[Forked]:
    made = Forked(arbiter)
    yield made
    made.close()


def test_the_kernel_says_which_process_a_worker_is(arbiter: Arbiter, forked: Forked) -> None:
    """The mold has not said it yet, and the scoreboard says something else."""
    assert forked.child.row is not None
    forked.child.row[Gauge.PID] = arbiter.pids["worker", 2]
    forked.says(line_of(messages.WorkerReady()))
    assert forked.child.pid == forked.relay.pid
    assert arbiter.fleet.processes.workers[3].state is WorkerState.READY
    arbiter.hear(("mold", 1), [line_of(messages.WorkerForked(3, forked.relay.pid))])
    assert not only_liar_ended(arbiter, ("mold", 1))


def test_a_mold_that_names_another_process_than_the_worker_is_ended(arbiter: Arbiter, forked: Forked) -> None:
    forked.says(line_of(messages.WorkerReady()))
    arbiter.hear(("mold", 1), [line_of(messages.WorkerForked(3, arbiter.pids["worker", 2]))])
    assert only_liar_ended(arbiter, ("mold", 1))
    assert forked.child.pid == forked.relay.pid


@pytest.mark.parametrize("claim", ["bystander", "worker", "mold", "ourselves", "init", "nobody"])
def test_a_mold_cannot_give_a_worker_the_pid_of_another_process(arbiter: Arbiter, bystander: int, claim: str) -> None:
    child, fds = arbiter.nameless()
    pids = {"bystander": bystander, "worker": arbiter.pids["worker", 2], "mold": arbiter.pids["mold", 2]}
    pid = {**pids, "ourselves": os.getpid(), "init": 1, "nobody": 0}[claim]
    arbiter.hear(("mold", 1), [line_of(messages.WorkerForked(3, pid))])
    assert only_liar_ended(arbiter, ("mold", 1))
    assert child.pid == 0
    arbiter.children.kill(child.key)
    assert alive(bystander)
    for fd in fds:
        os.close(fd)


def test_another_process_cannot_speak_for_a_worker(arbiter: Arbiter, forked: Forked) -> None:
    """Such as a program that a view has started and that got hold of the channel."""
    forked.says(line_of(messages.WorkerReady()))
    os.write(forked.line, line_of(messages.RecycleWanted("x")))
    arbiter.loop._listen(forked.child)
    assert forked.child.doomed
    assert not arbiter.fleet.processes.workers[3].recycle


def test_an_empty_packet_is_not_the_end_of_its_sender(arbiter: Arbiter, forked: Forked) -> None:
    """Else a living worker would be buried as dead, and nobody would look after it."""
    forked.says(line_of(messages.WorkerReady()))
    forked.says(b"")
    assert forked.child.doomed
    assert os.waitid(os.P_PID, forked.relay.pid, os.WEXITED | os.WNOWAIT) is not None


def test_descriptors_do_not_arrive(arbiter: Arbiter, forked: Forked) -> None:
    forked.says(line_of(messages.WorkerReady()))
    before = len(list(Path("/dev/fd").iterdir()))
    forked.relay.say(line_of(messages.RecycleWanted("x")), fds=50)
    forked.relay.say(b'["Future",{}]\n')
    assert forked.child.channel is not None
    assert select.select([forked.child.channel], [], [], 20)[0]
    arbiter.loop._listen(forked.child)
    assert len(list(Path("/dev/fd").iterdir())) <= before
    assert forked.child.doomed or not arbiter.fleet.processes.workers[3].recycle


def test_what_is_said_after_a_refusal_is_not_heard(arbiter: Arbiter) -> None:
    arbiter.theirs["worker", 1].send(b"nonsense\n")
    arbiter.theirs["worker", 1].send(line_of(messages.RecycleWanted("x")))
    arbiter.loop._listen(arbiter.children.by_key["worker", 1])
    assert not arbiter.fleet.processes.workers[1].recycle
    assert arbiter.children.by_key["worker", 1].channel is None
    arbiter.bury(arbiter.children.by_key["worker", 1])


def test_last_words_of_a_dead_child_signal_nobody(arbiter: Arbiter) -> None:
    """It is reaped: its pid may be a stranger's by now."""
    child = arbiter.children.by_key["worker", 1]
    arbiter.theirs["worker", 1].send(b"nonsense\n")
    arbiter.loop._bury(child, 0)
    assert alive(arbiter.pids["worker", 1]), "the process in its place was hit"


# -- how much ---------------------------------------------------------------------------------------------------------


def test_a_child_that_never_stops_is_heard_in_turns_and_then_ended(arbiter: Arbiter) -> None:
    liar, line = arbiter.children.by_key["worker", 1], arbiter.theirs["worker", 1]
    turns = 0
    while not liar.doomed:
        try:
            while True:
                line.send(b'["Future",{"a":1}]\n')
        except BlockingIOError:
            turns += 1
        begun = liar.intake.purse
        arbiter.loop._listen(liar)
        assert begun - liar.intake.purse <= 16, "a turn is bounded"
        assert turns < 2 * BURST
    arbiter.bury(liar)
    assert only_liar_ended(arbiter, ("worker", 1))


def test_a_child_may_go_on_for_ever_at_its_rate() -> None:
    intake, now = Intake("mold"), 1000.0
    for _ in range(20 * int(BURST)):
        now += 1 / RATE
        intake.pay(100, now)
    intake.purse = 0.5
    with pytest.raises(MessageRefusedError, match="flood"):
        intake.pay(100, now)


def test_long_messages_cost_more_than_short_ones() -> None:
    intake = Intake("mold")
    for _ in range(16):
        intake.pay(250 * 1024, 1.0)
    with pytest.raises(MessageRefusedError, match="flood"):
        intake.pay(250 * 1024, 1.0)


def test_every_message_to_the_arbiter_has_who_may_say_it() -> None:
    to_us = {"MoldReady", "MoldFailed", "WorkerForked", "ForkFailed", "WorkerReady", "WorkerBootFailed"}
    to_us |= {"RecycleWanted", "FilesChanged", "Probed", "LoadsAlone", "WorkerAnswered", "ListenersClosed"}
    assert {cls.__name__ for may in MAY_SAY.values() for cls in may} == to_us


def test_a_configuration_survives_the_channel() -> None:
    for config in (Config(), CONFIG, Config(user="www-data", warm_up=("/a", "/b"), access_log="-", max_memory=1 << 30)):
        message = messages.MoldReady(config.to_json())
        ours, theirs = Channel.pair()
        theirs.send(message)
        (received,) = ours.receive().messages
        assert isinstance(received, messages.MoldReady)
        assert Config.from_json(received.config) == config
        ours.close()
        theirs.close()


def test_the_sender_is_who_the_kernel_says() -> None:
    ours, theirs = Channel.pair()
    theirs.send(messages.WorkerReady())
    received = ours.receive()
    assert isinstance(received, Received)
    assert received.sender == os.getpid()
    ours.send(messages.ReopenLogs())
    assert theirs.receive().sender is None, "what the arbiter says is believed"
    ours.close()
    theirs.close()


def test_an_answer_that_was_asked_for_costs_the_worker_nothing() -> None:
    """An operator who asks again and again must not have a worker ended for a flood."""
    intake = Intake("worker")
    for second in range(100):
        intake.grant()
        for _ in range(200):
            intake.pay(4096, float(second))
    assert intake.purse == BURST


def test_a_flood_of_answers_that_were_not_asked_for_is_one() -> None:
    intake = Intake("worker")
    intake.grant()
    while intake.purse > 10:
        intake.pay(4096, 0.0)
    with pytest.raises(MessageRefusedError, match="a flood"):
        intake.pay(16 * 1024, 0.0)

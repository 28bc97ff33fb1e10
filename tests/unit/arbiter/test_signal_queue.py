"""The queue of signals: real ones, sent to this process."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from djworker.arbiter.signal_queue import HANDLED, Signals


@pytest.fixture
def signals() -> Iterator[Signals]:
    before = {number: signal.getsignal(number) for number in (*HANDLED, signal.SIGPIPE)}
    queue = Signals()
    queue.install()
    yield queue
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)
    queue._wake.close()
    queue._wakeup.close()


def awake(signals: Signals) -> bool:
    return bool(select.select([signals], [], [], 0)[0])


def send(*numbers: signal.Signals) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


def test_order_is_kept_and_the_sleep_ends(signals: Signals) -> None:
    assert not awake(signals)
    send(signal.SIGHUP, signal.SIGTERM)
    assert awake(signals)
    signals.clear()
    assert not awake(signals)
    assert signals.take() == [signal.SIGHUP, signal.SIGTERM]
    assert signals.take() == []


def test_repetitions_are_one_but_for_those_that_count(signals: Signals) -> None:
    send(signal.SIGHUP, signal.SIGTTIN, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGHUP)
    assert signals.take() == [signal.SIGHUP, signal.SIGTTIN, signal.SIGTTIN, signal.SIGTTOU]


def test_a_storm_does_not_fill_the_wake_up(signals: Signals) -> None:
    """The descriptor's buffer is finite; the queue holds what matters."""
    for _ in range(3000):
        send(signal.SIGUSR1)
    send(signal.SIGTERM)
    assert awake(signals)
    signals.clear()
    assert signals.take() == [signal.SIGUSR1, signal.SIGTERM]


def test_what_was_noted_travels(signals: Signals) -> None:
    send(signal.SIGHUP)
    noted = signals.noted()
    assert noted == [signal.SIGHUP]
    signals.take()
    signals.clear()
    signals.note(noted)
    assert awake(signals)
    assert signals.take() == [signal.SIGHUP]


def alone(program: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own."""
    return subprocess.run([sys.executable, *flags, "-c", program], capture_output=True, text=True, check=False)


def test_signals_that_were_blocked_arrive() -> None:
    """In a process of its own: a mask holds for one thread, and a signal goes to any other that there may be here."""
    program = """
import os, signal
from djworker.arbiter.signal_queue import HANDLED, Signals
signals = Signals()
signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
os.kill(os.getpid(), signal.SIGTERM)
assert signals.take() == []
signals.install()
assert signals.take() == [signal.SIGTERM]
"""
    done = alone(program)
    assert done.returncode == 0, done.stderr


def test_there_is_room_for_all_of_them_at_once() -> None:
    """faulthandler has handlers run on a small stack, and those of signals that come together interrupt one another."""
    program = """
import os, resource, signal
from djworker.arbiter.signal_queue import HANDLED, Signals
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
signals = Signals()
signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
for number in HANDLED:
    os.kill(os.getpid(), number)
signals.install()
assert set(signals.take()) == set(HANDLED)
"""
    done = alone(program, "-X", "faulthandler")
    assert done.returncode == 0, (done.returncode, done.stderr)


def test_a_crash_is_still_told_of() -> None:
    program = """
import ctypes, resource
from djworker.arbiter.signal_queue import Signals
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
Signals().install()
ctypes.string_at(0)
"""
    done = alone(program, "-X", "faulthandler")
    assert "Segmentation fault" in done.stderr
    assert "in string_at" in done.stderr

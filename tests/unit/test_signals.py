"""Life-cycle signals: whatever a receiver does, the others are called and the worker goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.dispatch import Signal

from djworker import log, signals
from djworker.signals import Lifecycle, mold_ready, send_guarded

HANGING = """
from djworker.mold.patches import patching
patching.patch_all()
import sys, threading
from djworker import log, signals
log.configure("info", "json", "worker")
never = threading.Event()
def stuck(**arguments): never.wait()
def leaves(**arguments): sys.exit(3)
def fine(slot, **arguments): print("fine", slot, flush=True)
for receiver in (stuck, leaves, fine):
    signals.worker_started.connect(receiver)
signals.send_guarded(signals.worker_started, limit=0.2, slot=5, generation=1, pid=2)
print("goes on")
"""


@pytest.fixture
def connect() -> Iterator[Callable[[Signal, Any], None]]:
    connected: list[tuple[Signal, Any]] = []

    def connect(signal: Signal, receiver: Any) -> None:
        signal.connect(receiver)
        connected.append((signal, receiver))

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(
        log, "event", lambda logger, level, name, message, **fields: found.append({"event": name, **fields})
    )
    return found


def test_in_the_mold_receivers_run_in_order_and_one_that_fails_stops_nobody(
    connect: Callable[[Signal, Any], None], events: list[dict[str, Any]]
) -> None:
    called: list[Any] = []

    def breaks(**arguments: Any) -> None:
        called.append("breaks")
        raise RuntimeError("no")

    def works(sender: Any, signal: Signal, generation: int, pid: int, **more: Any) -> None:
        called.append((sender, signal, generation, pid))

    async def waits(**arguments: Any) -> None:
        called.append("waits")

    for receiver in (breaks, waits, works):
        connect(mold_ready, receiver)
    send_guarded(mold_ready, generation=7, pid=4711)
    assert called == ["breaks", (Lifecycle, mold_ready, 7, 4711)]
    assert [(found["event"], found["receiver"].rpartition(".")[2]) for found in events] == [
        ("hook_failed", "breaks"),
        ("hook_failed", "waits"),
    ]
    assert "plain functions" in str(events[1]["exc_info"])


def test_without_receivers_nothing_happens() -> None:
    send_guarded(signals.worker_exiting, slot=0, generation=1, pid=2)


def test_in_a_worker_one_that_hangs_or_leaves_holds_nobody() -> None:
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["fine 5", "goes on"]
    failed, hangs = map(json.loads, done.stderr.splitlines())
    assert (failed["event"], failed["receiver"]) == ("hook_failed", "__main__.leaves")
    assert "SystemExit: 3" in failed["traceback"]
    assert (hangs["event"], hangs["receiver"]) == ("hook_hangs", "__main__.stuck")
    assert "never.wait()" in hangs["stack"] or "in stuck" in hangs["stack"]


def test_the_documentation_names_every_signal() -> None:
    text = signals.__doc__ or ""
    for name in signals._NAMES.values():
        assert f"\n{name} " in text

"""Django's inner locks, in a fresh interpreter that is patched as the mold is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PATCHED = """
from gevent import monkey
monkey.patch_all()
from djworker.mold.patches import native_locks
native_locks.install()
import _thread, threading, gevent
from asgiref.local import Local
from django.dispatch import Signal
"""


def answer(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_signals_and_locals_have_native_locks_and_nobody_else() -> None:
    program = """
native = [type(thing).__module__ == "_thread" for thing in (Local()._lock, Signal().lock, threading.RLock(), threading.Lock())]
print(native)
"""
    assert answer(PATCHED + program) == "[True, True, False, False]"


def test_locals_are_still_each_greenlets_own() -> None:
    program = """
here, there = Local(), Local(thread_critical=True)
def other():
    seen = hasattr(here, "x"), hasattr(there, "x")
    here.x = there.x = 2
    gevent.sleep(0)
    return seen, here.x, there.x
here.x = there.x = 1
job = gevent.spawn(other)
gevent.sleep(0)
print(job.get(), here.x, there.x)
"""
    assert answer(PATCHED + program) == "((False, False), 2, 2) 1 1"


def test_a_switch_inside_a_lock_stops_nobody() -> None:
    """A finalizer may switch greenlets wherever it runs."""
    program = """
signal = Signal()
def holder():
    with signal.lock:
        gevent.sleep(0.01)
job = gevent.spawn(holder)
gevent.sleep(0)
print(signal.send("somebody"), job.get())
"""
    assert answer(PATCHED + program) == "[] None"


def test_native_threads_exclude_each_other() -> None:
    program = """
signal = Signal()
start = monkey.get_original("_thread", "start_new_thread")
sleep = monkey.get_original("time", "sleep")
signal.lock.acquire()
said = []
def other():
    with signal.lock:
        said.append("inside")
start(other, ())
sleep(0.05)
before = list(said)
signal.lock.release()
for _ in range(1000):
    if said:
        break
    sleep(0.01)
print(before, said)
"""
    assert answer(PATCHED + program) == "[] ['inside']"


def test_they_are_installed_when_the_import_path_is_known_and_django_not_there_yet(tmp_path: Path) -> None:
    """The project may have a Django of its own, which the mold's own import path does not lead to."""
    program = f"""
import sys
from djworker.mold import main
from djworker.mold import project
early = "django" in sys.modules or "asgiref" in sys.modules
from djworker.conf.table import Config
from djworker.ipc.launch import Launch
project._enter(Launch("nowhere", ({str(tmp_path)!r},), {str(tmp_path)!r}, {{}}, (), Config(), ""))
from django.core.signals import request_started
from django.utils.translation import trans_real
print(early, type(request_started.lock).__module__, type(trans_real._active._lock).__module__)
"""
    assert answer(program) == "False _thread _thread"

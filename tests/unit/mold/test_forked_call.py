"""What a child of the mold is asked, and what it cannot do to the mold."""

from __future__ import annotations

import os
import subprocess
import sys

# In an interpreter of its own: pytest's has threads, and is not patched.
PROGRAM = """
from djworker.mold.patches import patching; patching.patch_all()
import os, threading, time
from djworker.mold import forked_call

def waits():
    time.sleep(0.01)
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    return f"{os.getpid() != MOLD} {'x' * 200_000}"

def raises():
    raise ValueError("no answer")

def blocks():
    while True:
        pass

MOLD = os.getpid()
print(len(forked_call.ask(waits, 30.0)))
print(repr(forked_call.ask(raises, 30.0)))
print(repr(forked_call.ask(blocks, 0.2)))
print(repr(forked_call.ask(lambda: os.kill(os.getpid(), 9), 30.0)))
print(repr(forked_call.ask(lambda: time.sleep(3600), 0.2)))
print(forked_call.ask(lambda: "still there", 30.0))
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child")
from gevent._hub_local import get_hub_if_exists
print(get_hub_if_exists())
"""


def test_answers_and_children_that_give_none() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=dict(os.environ), capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["200005", "''", "''", "''", "''", "still there", "no child", "None"]
    assert "ValueError: no answer" in done.stderr

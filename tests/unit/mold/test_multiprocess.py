"""Pipes of ``multiprocessing`` in processes that gevent has patched."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
from gevent import monkey
monkey.patch_all()
from multiprocessing import get_context
from djworker.mold.patches import multiprocess
multiprocess.install()

def answer(pipe):
    for _ in range(2):
        pipe.send(pipe.recv() * 100_000)  # more than a pipe has room for

context = get_context("fork")
ours, theirs = context.Pipe()
child = context.Process(target=answer, args=(theirs,))
child.start()
assert multiprocess.children() == [child]
for word in ("one", "two"):
    ours.send(word)
    assert ours.recv() == word * 100_000
child.join()
assert child.exitcode == 0
assert multiprocess.children() == []
"""


def test_both_ends_of_a_duplex_pipe_wait_for_each_other() -> None:
    """It is a pair of gevent's sockets, which do not block, and the child has no hub to wait in."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr

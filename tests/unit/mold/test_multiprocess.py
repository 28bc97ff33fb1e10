"""Pipes of ``multiprocessing`` in processes that gevent has patched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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

#: A module that is run as the mold is, and what it has a spawned child do.
MOLD = """
from gevent import monkey
monkey.patch_all()
import work

if __name__ == "__main__":
    from djworker.mold.patches import multiprocess
    multiprocess.install()
    print(work.ask())
"""
WORK = """
import sys
from multiprocessing import get_context

def answer(questions, answers):
    while True:
        answers.put([questions.get(), "gevent" in sys.modules])

def ask():
    context = get_context("spawn")
    questions, answers = context.Queue(), context.Queue()
    child = context.Process(target=answer, args=(questions, answers), daemon=True)
    child.start()
    questions.put(3)
    return answers.get(timeout=30)
"""


def test_a_spawned_child_is_not_patched_and_answers_from_its_queue(tmp_path: Path) -> None:
    """Where it imported the mold, its thread that sends was a greenlet, and it waited for the next question for ever."""
    (tmp_path / "mold.py").write_text(MOLD)
    (tmp_path / "work.py").write_text(WORK)
    done = subprocess.run(
        [sys.executable, "-m", "mold"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "[3, False]\n", done.stderr


def test_both_ends_of_a_duplex_pipe_wait_for_each_other() -> None:
    """It is a pair of gevent's sockets, which do not block, and the child has no hub to wait in."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr

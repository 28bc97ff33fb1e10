"""Event loops in greenlets, in a fresh interpreter that is patched as the mold is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PATCHED = """
from djworker.mold.patches import patching
patching.patch_all()
from djworker.mold.patches import asyncio_loops
asyncio_loops.install()
import asyncio, gevent
both = []
async def meet(name):
    both.append(name)
    async with asyncio.timeout(20):
        while len(both) < 2:
            await asyncio.sleep(0.001)
    assert asyncio.current_task() in asyncio.all_tasks()
    return name, asyncio.get_running_loop() is asyncio.get_event_loop()
def is_inside():
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
"""


def answer(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PATCHED + program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_two_loops_run_at_once_and_nobody_else_is_inside_one() -> None:
    """Each loop only ends because the other runs meanwhile."""
    program = """
jobs = [gevent.spawn(asyncio.run, meet(name)) for name in "ab"]
gevent.sleep(0)
print(is_inside(), [job.get(timeout=30) for job in jobs], is_inside())
"""
    assert answer(program) == "False [('a', True), ('b', True)] False"


def test_a_loop_that_ends_closes_no_generator_of_another() -> None:
    """Python keeps one pair of hooks for a thread's asynchronous generators: the loop that began last would note them all."""
    program = """
ended = gevent.event.Event()
async def numbers():
    for number in range(3):
        yield number
async def long():
    await asyncio.sleep(0.01)  # by then the short one has begun
    found = []
    async for number in numbers():
        found.append(number)
        while not ended.is_set():
            await asyncio.sleep(0.001)
    return found
async def short():
    await asyncio.sleep(0.05)
job = gevent.spawn(asyncio.run, long())
gevent.sleep(0)
gevent.spawn(asyncio.run, short()).link(lambda _: ended.set())
print(job.get(timeout=30))
"""
    assert answer("import gevent.event" + program) == "[0, 1, 2]"


FUTURE = """
future = asyncio.new_event_loop().create_future()
future.set_result(1)
print(future.result())
"""
TASKS = """
async def main():
    return sum(await asyncio.gather(*[asyncio.create_task(asyncio.sleep(0, n)) for n in range(2)]))
print(asyncio.run(main()))
"""
THREAD = """
async def main():
    return await asyncio.to_thread(lambda: 1)
print(asyncio.run(main()))
"""
STREAMS = """
def greet(reader, writer):
    writer.write(b"1")
    writer.close()
async def main():
    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    data = await reader.read()
    writer.close()
    server.close()
    return data.decode()
print(asyncio.run(main()))
"""
CANCEL = """
async def main():
    task = asyncio.create_task(asyncio.sleep(99))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return int(task.cancelled())
print(asyncio.run(main()))
"""


@pytest.mark.parametrize(
    "program", [FUTURE, TASKS, THREAD, STREAMS, CANCEL], ids=["future", "tasks", "thread", "streams", "cancel"]
)
def test_what_asyncio_does(program: str) -> None:
    assert answer(program) == "1"

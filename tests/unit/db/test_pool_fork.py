"""A child of a fork must leave the parent's connections alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CHILD = """
import json, os, sys
import gevent
if {patched}:
    from djworker.mold.patches import patching; patching.patch_all()
from tests.unit.db.world import World
world = World(max_size=2, min_size=1, timeout=5)
held, idle = world.user_with_conn(), world.user_with_conn()
idle.let_go(); world.run()
mine = world.pool.acquire()
ticket = world.pool.ticket(mine)
late = world.user(); world.run()
gate = world.server.hold("close")
connecting = World(); connecting.server.hold("connect")
hopeful = connecting.user(); connecting.run()
read, write = os.pipe()
# gevent listens for ends of children from its first watcher on, which is after the fork: a child may be quicker
gevent.get_hub().loop.install_sigchld()
pid = gevent.os.fork() if {patched} else os.fork()
if pid == 0:
    report = {{}}
    try:
        if not {patched}:
            gevent.reinit()
        report["size"] = world.pool.stats()["pool_size"]
        report["forgotten"] = len(world.server.forgotten)
        world.pool.release(mine); world.pool.release(mine, ticket=ticket); world.pool.orphan(mine, ticket)
        world.run()
        report["late"] = type(late.error).__name__
        user = world.user_with_conn()
        report["new"] = user.conn not in (held.conn, mine)
        user.let_go(); world.run()
        report["idle"] = world.pool.stats()["pool_available"]
        connecting.server.gates["connect"].set(); connecting.run()
        report["connecting"] = [connecting.pool.stats()["pool_size"], hopeful.conn is None]
        report["closed"] = world.server.calls["close"]
    except BaseException as error:
        report["error"] = repr(error)
    os.write(write, json.dumps(report).encode())
    os._exit(0)
os.waitpid(pid, 0)
child = json.loads(os.read(read, 4096))
before = world.server.calls["connect"]
world.pool.release(mine); held.let_go(); world.run()
connecting.server.gates["connect"].set(); connecting.run()
parent = dict(
    hopeful=hopeful.conn is not None, stats=world.pool.stats(), late=late.conn is not None,
    connects=world.server.calls["connect"] - before)
print(json.dumps([parent, child]))
"""


def forked(*, patched: bool) -> tuple[dict[str, object], dict[str, object]]:
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(patched=patched)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert not done.stderr  # what goes wrong in the hub is only printed
    parent, child = json.loads(done.stdout)
    return parent, child


def test_a_forked_child_forgets_everything_and_the_parent_nothing() -> None:
    for patched in (False, True):
        parent, child = forked(patched=patched)
        assert child == {
            "size": 0,
            "forgotten": 2,
            "late": "Closed",
            "new": True,
            "idle": 1,
            "connecting": [0, True],
            "closed": 0,
        }
        assert parent["late"]
        assert parent["hopeful"]
        assert parent["connects"] == 0
        assert parent["stats"]["pool_leased"] == 1  # type: ignore[index]


def test_an_idle_pool_keeps_no_process_alive() -> None:
    code = (
        "import gevent; from djworker.db.pool.pool import Pool; from tests.unit.db.world import FakeServer, limits\n"
        "pool = Pool(FakeServer(), limits(max_size=1, timeout=300, connect_timeout=300))\n"
        "def use(): pool.release(pool.acquire())\n"
        "for _ in range(5): gevent.spawn(use)\n"
        "print(gevent.get_hub().join(), pool.stats()['pool_available'])\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout.split() == ["True", "1.0"]


def test_the_alarm_rings_by_itself() -> None:
    """With the real clock: a waiter's time-out, in the main greenlet, with nothing else in the loop."""
    code = (
        "from djworker.db.pool.pool import Pool; from tests.unit.db.world import FakeServer, limits\n"
        "pool = Pool(FakeServer(), limits(max_size=1))\n"
        "pool.acquire(label='/a')\n"
        "try: pool.acquire(timeout=0.02)\n"
        "except Exception as error: print(error)\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=20, check=True
    )
    assert "no connection within 0.02 s" in done.stdout

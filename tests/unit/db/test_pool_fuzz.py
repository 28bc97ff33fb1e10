"""Kills at every point, faults in every verb: no lost slot, no connection with two owners, nobody asleep in vain."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import gevent
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from djworker.db.pool.slots import SlotState
from tests.unit.db.world import Conn, User, World

if TYPE_CHECKING:
    from collections.abc import Callable

#: What random inputs reach in one run, they may miss in the next.
pytestmark = pytest.mark.no_cover


def come_to_rest(world: World) -> None:
    """Everybody lets go, the server is well, time passes: nothing may be left over."""
    world.server.up = True
    world.server.slowness = lambda: 0
    world.server.fails = lambda _: False
    for gate in world.server.gates.values():
        gate.set()
    world.server.gates.clear()
    for user in world.users:
        user.let_go()
    for _ in range(40):
        world.pass_time(1)
    assert all(user.greenlet.dead for user in world.users)
    world.check_at_rest()
    probe = world.user_with_conn()
    probe.let_go()
    world.run()
    world.check_at_rest()


def tired(world: World, conn: Conn) -> None:
    """Return a connection on which something happened."""
    luck = random.random()
    conn.busy = luck < 0.15
    conn.broken = 0.15 < luck < 0.3
    conn.dirty = 0.3 < luck < 0.5
    if luck > 0.9:
        world.pool.discard(conn)
    else:
        world.pool.release(conn, reset=conn.dirty)


@pytest.mark.parametrize("seed", range(6))
def test_random_kills_and_faults(seed: int) -> None:
    """Users and the pool's own greenlets are killed wherever they happen to be."""
    luck = random.Random(seed)
    random.seed(seed)
    world = World(
        max_size=4,
        min_size=1,
        timeout=3,
        check_after=0.5,
        max_lifetime=20,
        max_idle=5,
        max_waiting=20,
        connect_timeout=2,
        io_timeout=2,
        rng=random.Random(seed),
    )
    world.server.slowness = lambda: luck.choice([0, 0, 1, 2, 5])
    fault = [0.05]
    world.server.fails = lambda _: luck.random() < fault[0]
    live: list[User] = []
    served = 0
    for step in range(1500):
        fault[0] = 0.9 if step % 500 > 430 else 0.05  # now and then nearly everything fails
        live = [user for user in live if not user.greenlet.dead]
        if len(live) < 25:
            live.append(world.user(prefer=luck.choice([None, *world.server.sessions])))
        for user in luck.sample(live, min(2, len(live))):
            if user.conn is not None:
                user.let_go(lambda conn: tired(world, conn))
            elif luck.random() < 0.3:
                user.kill()
        if luck.random() < 0.15:
            luck.choice(live).kill()
        jobs = list(world.pool._maintenance.tasks._jobs)
        if jobs and luck.random() < 0.1:
            luck.choice(jobs).kill(block=False)
        if luck.random() < 0.1:
            world.clock.now += luck.random()
            world.pool.sweep()
        served += len(world.users)
        world.users = [user for user in world.users if not user.greenlet.dead]
        served -= len(world.users)
        gevent.sleep(0)
        world.check()
    stats = world.pool.stats()
    assert served > 500
    for name in (
        "requests_abandoned",
        "connections_cancelled",
        "connections_reclaimed",
        "connections_lost",
        "returns_bad",
    ):
        assert stats[name] > 5, f"the fuzz does not reach {name}"
    come_to_rest(world)


def scenario(check: bool, out: bool) -> tuple[World, list[User]]:  # noqa: FBT001
    """Two slots, five users, every kind of return."""
    world = World(max_size=2, check_after=0 if check else 30, timeout=60)
    world.server.slowness = lambda: 2
    exits: list[Callable[[Conn], None]] = [
        world.pool.release,
        lambda conn: world.pool.release(conn, reset=True),
        world.pool.discard,
        lambda conn: world.give_back(conn, busy=True),
        lambda conn: world.give_back(conn, broken=True),
    ]
    if out:
        world.server.up = False
    users = [world.user() for _ in exits]
    for user, how in zip(users, exits, strict=True):
        user.let_go(how)
    return world, users


@pytest.mark.parametrize("out", [False, True])
@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("victim", range(5))
def test_a_kill_at_every_single_turn_of_the_hub(victim: int, check: bool, out: bool) -> None:  # noqa: FBT001
    """Not at random: each user, at each turn, in turn."""
    for turn in range(36):
        world, users = scenario(check, out)
        for now in range(60):
            if now == turn:
                users[victim].kill()
            gevent.sleep(0)
            world.check()
        world.server.up = True
        for _ in range(10):
            world.pass_time(0.3)
        others = [user for user in users if user is not users[victim]]
        assert all(user.conn is not None or (out and user.error) for user in others)
        come_to_rest(world)


@pytest.mark.parametrize("job", range(8))
def test_a_kill_of_each_of_the_pools_own_greenlets_at_every_turn(job: int) -> None:
    """Even before it has begun: then its function never runs, but its consequence must."""
    for turn in range(24):
        world, users = scenario(check=True, out=False)
        for now in range(60):
            jobs = list(world.pool._maintenance.tasks._jobs)
            if now == turn and job < len(jobs):
                jobs[job].kill(block=False)
            gevent.sleep(0)
            world.check()
        for _ in range(10):
            world.pass_time(0.3)
        assert all(user.conn is not None for user in users)
        come_to_rest(world)


class PoolMachine(RuleBasedStateMachine):
    """Any order of anything."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(
            max_size=3, min_size=1, timeout=10, check_after=5, max_lifetime=60, max_idle=20, rng=random.Random(0)
        )
        self.world.server.bound = 3

    @property
    def holders(self) -> list[User]:
        return [user for user in self.world.users if user.conn is not None and not user.greenlet.dead]

    @rule(prefer=st.integers(0, 5))
    def come(self, prefer: int) -> None:
        sessions = sorted(self.world.server.sessions, key=lambda conn: conn.number)
        self.world.user(prefer=sessions[prefer] if prefer < len(sessions) else None)

    @rule(turns=st.integers(1, 4))
    def turn(self, turns: int) -> None:
        self.world.run(turns)

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), how=st.sampled_from(["release", "reset", "discard", "busy", "broken", "orphan"]))
    def leave(self, data: st.DataObject, how: str) -> None:
        user = data.draw(st.sampled_from(self.holders))
        pool = self.world.pool

        def back(conn: Conn) -> None:
            conn.busy, conn.broken = how == "busy", how == "broken"
            if how == "discard":
                pool.discard(conn)
            elif how == "orphan":
                pool.orphan(conn, pool.ticket(conn))
            else:
                pool.release(conn, reset=how == "reset")

        user.let_go(back)

    @precondition(lambda self: any(not user.greenlet.dead for user in self.world.users))
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from([user for user in self.world.users if not user.greenlet.dead])).kill()

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 6.0, 25.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.now += seconds
        self.world.pool.sweep()

    @rule()
    def crash(self) -> None:
        self.world.server.crash()

    @rule()
    def restart(self) -> None:
        self.world.server.up = True

    @rule(verb=st.sampled_from(["connect", "check", "reset", "cancel", "close"]))
    def hang(self, verb: str) -> None:
        self.world.server.hold(verb)

    @rule()
    def unhang(self) -> None:
        for gate in self.world.server.gates.values():
            gate.set()
        self.world.server.gates.clear()

    @rule()
    def drain(self) -> None:
        self.world.pool.drain()

    @rule(size=st.integers(1, 3))
    def resize(self, size: int) -> None:
        self.world.pool.resize(min(size, 1), size)

    @invariant()
    def holds(self) -> None:
        self.world.check()

    @invariant()
    def bounded(self) -> None:
        assert len(self.world.server.sessions) <= 3
        assert self.world.pool._ledger.size <= 3
        assert self.world.gauge(SlotState.OFFERED) <= len(self.world.users)

    def teardown(self) -> None:
        come_to_rest(self.world)
        self.world.pool.close()
        self.world.run()
        assert not self.world.server.sessions


PoolMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestPoolMachine = PoolMachine.TestCase

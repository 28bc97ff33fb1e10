"""Pools that share one bound, in front of one server."""

from __future__ import annotations

import random

import gevent
import pytest

from djworker.db.pool import errors
from djworker.db.pool.bound import Bound
from tests.unit.db.world import World


def worlds(number: int, **options: int) -> list[World]:
    """So many pools that share a bound. Their server watches it."""
    first, *others = [World(**options) for _ in range(number)]
    for other in others:
        other.pool._state.driver.__dict__ = first.server.__dict__  # one server behind all
        other.clock = first.clock
        other.pool._clock = other.pool._state.clock = other.pool._scheduler._clock = first.clock
    bound = Bound()
    for world in (first, *others):
        world.pool.share(bound)
    return [first, *others]


def run(worlds: list[World], turns: int = 60) -> None:
    """Let the hub run, and the alarms of all pools ring."""
    for _ in range(3):
        for world in worlds:
            world.run(turns)
            world.pool.sweep()
    worlds[0].run()


def test_an_idle_connection_is_given_up_for_another_pool() -> None:
    some = worlds(2, max_size=2)
    one, other = some
    holders = [one.user_with_conn(), one.user_with_conn()]
    for holder in holders:
        holder.let_go()
    run(some)
    assert one.pool.stats()["pool_available"] == 2
    guest = other.user()
    run(some)
    assert guest.conn is not None
    assert (one.pool.stats()["pool_size"], other.pool.stats()["pool_size"]) == (1, 1)
    assert not one.server.violations


def test_a_connection_that_comes_back_goes_to_whoever_waits_in_another_pool() -> None:
    some = worlds(2, max_size=1)
    one, other = some
    holder = one.user_with_conn()
    guest = other.user()
    run(some)
    assert guest.asking
    holder.let_go()
    run(some)
    assert guest.conn is not None
    assert one.pool.stats()["pool_size"] == 0
    assert not one.server.violations


def test_waiters_of_all_pools_are_served_in_order_of_arrival() -> None:
    some = worlds(2, max_size=1)
    one, _other = some
    holder = one.user_with_conn()
    order = []
    for number in range(6):
        one.clock.now += 1
        order.append(some[number % 2].user())
        run(some)
    holder.let_go()
    for user in order:
        run(some)
        assert user.conn is not None
        assert [later.conn for later in order[order.index(user) + 1 :]] == [None] * (5 - order.index(user))
        user.let_go()
    assert not one.server.violations


def test_a_waiter_that_gives_up_leaves_the_others_their_idle_connections() -> None:
    some = worlds(2, max_size=1)
    one, other = some
    holder = one.user_with_conn()
    guest = other.user(timeout=5)
    run(some)
    one.clock.now += 6
    run(some)
    assert isinstance(guest.error, errors.AcquireTimeout)
    assert "shared with 1 other pools" in str(guest.error)
    holder.let_go()
    run(some)
    assert one.pool.stats()["pool_available"] == 1


def test_a_crowd_at_one_pool_keeps_its_connections() -> None:
    some = worlds(2, max_size=2)
    one, other = some
    other.user_with_conn().let_go()
    run(some)
    for _ in range(5):
        users = [one.user() for _ in range(6)]
        while any(not user.greenlet.dead for user in users):
            run(some, turns=3)
            for user in users:
                if user.conn is not None:
                    user.let_go()
    assert one.server.calls["connect"] == 3, "one of the other pool's, and two"


@pytest.mark.parametrize("seed", range(6))
def test_a_crowd_at_several_pools_never_exceeds_the_bound_and_is_served(seed: int) -> None:
    rng = random.Random(seed)
    some = worlds(4, max_size=3)
    server = some[0].server
    server.slowness = lambda: rng.randrange(4)
    users = []
    for _ in range(80):
        users.append(rng.choice(some).user())
        gevent.sleep(0)
        for user in users:
            if user.conn is not None and rng.random() < 0.3:
                user.let_go()
            elif user.asking and rng.random() < 0.02:
                user.kill()
        for world in some:
            world.pool.sweep()
    for _ in range(200):
        for user in users:
            if user.conn is not None:
                user.let_go()
        run(some, turns=3)
        if not any(user.asking for user in users):
            break
    assert not any(user.asking for user in users)
    assert not server.violations
    run(some)
    assert sum(world.pool.stats()["pool_size"] for world in some) <= 3

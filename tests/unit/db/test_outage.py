"""The server is gone, full, deaf, and comes back."""

from __future__ import annotations

import random

import pytest

from djworker.db.pool import errors
from djworker.db.pool.circuit import LAST_RETRY, MOST_ENDED, OUTAGE_AFTER
from djworker.db.pool.slots import SlotState
from tests.unit.db.world import DriverError, User, World


def outage(**options: object) -> World:
    world = World(rng=random.Random(3), **options)
    world.server.crash()
    user = world.user()
    world.run()
    for _ in range(4):
        world.pass_time(0.2)
    assert isinstance(user.error, errors.Unavailable)
    return world


def test_one_failed_connect_is_tried_again_within_the_time_out() -> None:
    world = World()
    world.server.up = False
    user = world.user()
    world.run()
    assert user.asking
    assert world.server.calls["connect"] == 1
    world.server.up = True
    world.pass_time(0.06)
    assert user.conn is not None


def test_in_an_outage_all_who_wait_are_told_at_once_with_the_cause() -> None:
    world = World(max_size=2)
    world.server.crash()
    users = [world.user() for _ in range(20)]
    world.run()
    for _ in range(4):
        world.pass_time(0.2)
    assert {type(user.error) for user in users} == {errors.Unavailable}
    assert isinstance(users[0].error.__cause__, DriverError)  # type: ignore[union-attr]
    assert "cannot connect: connection refused (3 failures in a row" in str(users[0].error)
    assert world.server.calls["connect"] <= 4
    assert world.events == ["pool_outage"]


def test_during_an_outage_whoever_comes_is_told_at_once_and_the_server_is_not_stormed() -> None:
    world = outage()
    attempts = world.server.calls["connect"]
    users = [world.user() for _ in range(100)]
    world.run()
    assert all(isinstance(user.error, errors.Unavailable) for user in users)
    assert world.server.calls["connect"] - attempts <= 1


def test_the_server_is_found_again_within_two_seconds() -> None:
    world = outage()
    for _ in range(50):  # a long outage under load: the back-off is at its longest
        world.pass_time(1)
        world.user()
        world.run()
    world.server.up = True
    back = world.clock.now
    user = world.user()
    world.run()
    while user.conn is None:
        world.pass_time(0.1)
        user = world.user()
        world.run()
    assert world.clock.now - back <= 2 * LAST_RETRY
    assert world.events[-1] == "pool_recovered"
    world.check()


def test_a_probe_that_hangs_in_a_deaf_network_does_not_delay_the_recovery() -> None:
    world = outage(connect_timeout=60)
    gate = world.server.hold("connect")
    for _ in range(10):
        world.pass_time(1)
        world.user()
        world.run()
    assert 1 <= world.gauge(SlotState.CONNECTING) <= 2
    del world.server.gates["connect"]  # the hanging ones go on hanging
    world.server.up = True
    back, user = world.clock.now, world.user()
    while user.conn is None:
        world.pass_time(0.1)
        user = world.user()
        world.run()
    assert world.clock.now - back <= 2
    gate.set()
    world.run()
    world.check()


def test_a_full_server_is_not_an_outage_while_connections_keep_coming_back() -> None:
    """PostgreSQL's max_connections: we get along with what we have."""
    world = World(max_size=5, timeout=100)
    holder = world.user_with_conn()
    world.server.up = False
    waiters = [world.user() for _ in range(10)]
    world.run()
    for user in [holder, *waiters]:
        world.pass_time(0.5)
        assert user.conn is not None
        user.let_go()
        world.run()
    assert world.pool.stats()["circuit_open"]
    assert world.server.calls["connect"] < 20
    world.check()


def test_a_server_that_lets_some_in_and_others_not_is_not_stormed() -> None:
    """Its last places: each success must not be an invitation for all who were refused."""
    rng = random.Random(5)
    world = World(max_size=20, timeout=100)
    world.server.slowness = lambda: rng.randrange(1, 8)
    world.server.fails = lambda verb: verb == "connect" and len(world.server.sessions) > 10
    users = [world.user() for _ in range(40)]
    world.run()
    for user in users:
        world.pass_time(0.2)
        assert user.conn is not None
        user.let_go()
        world.run()
    assert world.server.calls["connect"] < 2 * 20 + 40 * 0.2 / (LAST_RETRY / 2)
    world.check()


def test_connections_that_hang_do_not_count_as_hope() -> None:
    """Nothing comes back and nothing connects: to wait is in vain."""
    world = World(max_size=5, timeout=100)
    for _ in range(3):
        world.user_with_conn()
    world.server.up = False
    waiters = [world.user() for _ in range(3)]
    world.run()
    for _ in range(30):
        world.pass_time(0.1)
    assert {type(user.error) for user in waiters} == {errors.Unavailable}


def test_after_a_crash_the_idle_connections_are_asked_before_they_are_lent() -> None:
    """Errors only for what was in flight."""
    world = World(max_size=4)
    users = [world.user_with_conn() for _ in range(4)]
    for user in users[1:]:
        user.let_go()
    world.run()
    world.server.crash()
    world.server.up = True
    users[0].let_go()  # the one in flight finds out
    world.run()
    again = [world.user_with_conn() for _ in range(4)]
    assert not any(user.conn.broken for user in again if user.conn)
    world.check()


def test_a_last_hope_that_turns_out_to_be_dead_is_answered_at_once() -> None:
    """Not only when the next probe has failed too."""
    world = World(max_size=3, check_after=0, timeout=100)
    aware, unaware = world.user_with_conn(), world.user_with_conn()
    world.server.crash()
    assert unaware.conn is not None
    unaware.conn.broken = False
    lost = world.user()
    world.run()
    for _ in range(12):
        world.pass_time(0.2)
    assert isinstance(lost.error, errors.Unavailable)
    aware.let_go()
    unaware.let_go()
    world.run()
    world.pool._state.circuit.retry_at = world.clock.now + 1
    user = world.user()
    world.run()
    assert world.server.calls["check"] == 1
    assert isinstance(user.error, errors.Unavailable)


def test_a_time_out_during_trouble_names_the_trouble() -> None:
    world = World(timeout=0.01)
    world.server.up = False
    user = world.user()
    world.run()
    world.pass_time(0.02)
    assert isinstance(user.error, errors.AcquireTimeout)
    assert isinstance(user.error.__cause__, DriverError)


def test_nobody_waits_for_a_refill_so_it_knocks_rarely() -> None:
    world = World(min_size=2, rng=random.Random(1))
    world.server.up = False
    world.pool.warm()
    world.run()
    attempts = world.server.calls["connect"]
    for _ in range(60):
        world.pass_time(1)
    assert 2 <= world.server.calls["connect"] - attempts <= 60 / 15 + 1
    world.server.up = True
    for _ in range(16):
        world.pass_time(1)
    assert world.gauge(SlotState.IDLE) == 2


def test_many_slow_connects_are_left_alone_when_one_of_them_fails() -> None:
    world = World(max_size=5, timeout=100)
    gate = world.server.hold("connect")
    users: list[User] = [world.user() for _ in range(5)]
    world.run()
    next(iter(world.pool._ledger.lists[SlotState.CONNECTING])).task.kill(block=False)  # type: ignore[union-attr]
    world.run()
    for _ in range(10):
        world.pass_time(0.2)
    assert world.pool.stats()["connections_errors"] == 1
    gate.set()
    world.run()
    world.pass_time(1)
    assert all(user.conn for user in users)


@pytest.mark.parametrize("verb", ["check", "reset", "close", "cancel"])
def test_a_verb_that_fails_costs_its_connection_and_nothing_else(verb: str) -> None:
    world = World(max_size=2, check_after=0)
    world.server.fails = lambda called: called == verb
    for _ in range(3):
        user = world.user_with_conn()
        assert user.conn is not None
        user.conn.busy = verb == "cancel"
        user.let_go({"close": world.pool.discard}.get(verb) or (lambda conn: world.pool.release(conn, reset=True)))
        world.run()
    world.check_at_rest()


def test_logins_that_are_ended_by_hand_are_no_outage() -> None:
    world = World(max_size=4)
    world.server.ends_logins = True
    user = world.user()
    world.run(turns=20)
    assert user.asking
    assert world.server.calls["connect"] > OUTAGE_AFTER, "it is tried again without a wait"
    world.server.ends_logins = False
    world.run()
    assert user.conn is not None
    assert not world.events


def test_logins_that_are_ended_for_ever_become_an_outage_in_the_end() -> None:
    world = World(max_size=4)
    world.server.ends_logins = True
    user = world.user()
    world.run(turns=20 * MOST_ENDED)
    for _ in range(4):
        world.pass_time(0.2)
    assert isinstance(user.error, errors.Unavailable)
    assert world.server.calls["connect"] <= MOST_ENDED + 10
    assert world.events == ["pool_outage"]


def test_a_useless_connection_is_replaced_though_nobody_waits() -> None:
    world = World(max_size=2)
    user = world.user_with_conn()
    old, world.server.useless = user.conn, True
    user.let_go(lambda conn: world.pool.release(conn, reset=True))
    world.run()
    assert world.server.sessions, "a new one"
    assert old not in world.server.sessions
    assert world.server.calls["connect"] == 2
    assert world.pool.stats()["pool_available"] == 1


def test_renewing_replaces_what_there_is_and_spares_what_is_being_made() -> None:
    world = World(max_size=3)
    first, second = world.user_with_conn(), world.user_with_conn()
    second.let_go()
    world.run()
    gate = world.server.hold("connect")
    third, fourth = world.user(), world.user()
    world.run()
    assert third.conn is not None
    world.pool.renew()
    gate.set()
    world.run()
    assert fourth.conn is not None
    fourth.let_go()
    first.let_go()
    third.let_go()
    world.run()
    assert world.server.sessions == {fourth.conn}

"""A pause: whoever asks waits, what is lent goes on, everything is connected anew, and the time does not count."""

from __future__ import annotations

from djworker.db.pool import errors
from tests.unit.db.world import World


def test_whoever_asks_during_a_pause_waits_until_it_is_ended() -> None:
    world = World(max_size=2)
    first = world.user()
    world.run()
    first.let_go()
    world.pool.pause(30)
    world.run()
    assert not world.server.sessions, "idle connections are closed at once"
    users = [world.user() for _ in range(3)]
    world.run()
    assert all(user.asking for user in users)
    assert world.server.calls["connect"] == 1
    world.pool.resume()
    world.run()
    assert [user.conn is not None for user in users] == [True, True, False]
    assert world.pool.paused == 0


def test_what_is_lent_goes_on_and_is_closed_when_it_comes_back() -> None:
    world = World(max_size=1)
    first = world.user()
    world.run()
    world.pool.pause(30)
    assert first.conn is not None
    assert first.conn in world.server.sessions
    waiting = world.user()
    first.let_go()
    world.run()
    assert waiting.asking
    assert not world.server.sessions
    world.pool.resume()
    world.run()
    assert waiting.conn is not None


def test_a_pause_ends_by_itself() -> None:
    world = World(max_size=1, timeout=100)
    user = world.user()
    world.run()
    user.let_go()
    world.pool.pause(5)
    waiting = world.user()
    world.run()
    world.pass_time(4)
    assert waiting.asking
    assert world.pool.paused > 0
    world.pass_time(1.5)
    assert waiting.conn is not None


def test_a_pause_that_nobody_notices_ends_by_itself_too() -> None:
    world = World(max_size=1)
    world.pool.pause(5)
    world.pass_time(6)
    user = world.user()
    world.run()
    assert user.conn is not None


def test_the_time_of_a_pause_does_not_count_against_a_waiter() -> None:
    world = World(max_size=1, timeout=10)
    holder = world.user()
    world.run()
    waiting = world.user()
    world.run()
    world.pass_time(6)
    world.pool.pause(60)
    world.pass_time(30)
    assert waiting.asking
    world.pool.resume()
    world.pass_time(3.5)
    assert waiting.asking, "6 + 3.5 s of its own"
    world.pass_time(1)
    assert isinstance(waiting.error, errors.AcquireTimeout)
    holder.let_go()


def test_nothing_fails_during_a_pause_though_the_server_is_away() -> None:
    world = World(max_size=2)
    first = world.user()
    world.run()
    world.pool.pause(60)
    world.server.crash()
    first.let_go()
    users = [world.user() for _ in range(5)]
    for _ in range(20):
        world.pass_time(1)
    assert all(user.asking for user in users)
    assert world.server.calls["connect"] == 1, "it is not asked meanwhile"
    world.server.up = True
    world.pool.resume()
    world.run()
    assert sum(user.conn is not None for user in users) == 2


def test_a_second_pause_prolongs_the_first() -> None:
    world = World(max_size=1, timeout=10)
    world.pool.pause(5)
    user = world.user()
    world.run()
    world.pass_time(4)
    world.pool.pause(20)
    world.pass_time(15)
    assert user.asking
    world.pass_time(6)
    assert user.conn is not None


def test_a_refill_waits_for_the_end_of_a_pause() -> None:
    world = World(min_size=2, max_size=4)
    world.pool.pause(5)
    world.pool.warm()
    world.run()
    assert world.server.calls["connect"] == 0
    world.pass_time(6)
    assert len(world.server.sessions) == 2

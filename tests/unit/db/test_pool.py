"""The pool's promises, one by one."""

from __future__ import annotations

import random
import threading

import gevent
import greenlet
import pytest
from django.db import OperationalError

from djworker.bug import Bug
from djworker.db import errors
from djworker.db.pool import errors as pool_errors
from djworker.db.pool.slots import SlotState
from tests.unit.db.world import Conn, User, World, limits


def test_the_bound_holds_while_connects_are_under_way() -> None:
    """django-db-geventpool with a limit of 4 opened 30 connections for 30 greenlets."""
    world = World(max_size=4)
    world.server.slowness = lambda: 5
    users = [world.user() for _ in range(30)]
    for user in users:
        user.let_go()
    world.run(200)
    assert world.server.calls["connect"] == 4
    assert all(user.conn for user in users)
    world.check_at_rest()


def test_first_come_first_served() -> None:
    """Waiters are served in the order in which they came."""
    world = World(max_size=1)
    first = world.user_with_conn()
    others = [world.user() for _ in range(5)]
    world.run()
    for user in [first, *others]:
        assert [each.conn is not None for each in others[user.number :]] == [False] * (5 - user.number)
        user.let_go()
        world.run()
    world.check_at_rest()


def test_who_comes_later_cannot_overtake_a_waiter_at_the_moment_of_release() -> None:
    """The hand-off is direct: between a release and the waking of the waiter, the connection is not up for grabs."""
    world = World(max_size=1)
    holder = world.user_with_conn()
    waiter = world.user()
    world.run()
    late: list[User] = []

    def release_and_come_back(conn: Conn) -> None:
        world.pool.release(conn)
        late.append(world.user())

    holder.let_go(release_and_come_back)
    world.run()
    assert waiter.conn is not None
    assert late[0].conn is None


def test_a_waiter_that_is_killed_between_hand_off_and_waking_passes_the_connection_on() -> None:
    """psycopg_pool loses the connection here for ever."""
    world = World(max_size=1)
    holder = world.user_with_conn()
    victim, next_ = world.user(), world.user()
    world.run()

    def release_and_kill(conn: Conn) -> None:
        victim.greenlet.kill(block=False)  # is thrown first, for it was asked for first ...
        world.pool.release(conn)
        assert world.gauge(SlotState.OFFERED) == 1  # ... but the connection is the victim's by now

    holder.let_go(release_and_kill)
    world.run()
    assert next_.conn is not None
    assert isinstance(victim.error, gevent.GreenletExit)
    world.check()


def test_a_waiter_may_give_up_by_its_own_timeout() -> None:
    """gevent.Timeout is a BaseException too."""
    world = World(max_size=1)
    world.user_with_conn()

    def impatient() -> str:
        with gevent.Timeout(0.001, False):  # type: ignore[arg-type]
            world.pool.acquire()
        return "gave up"

    assert gevent.spawn(impatient).get(timeout=5) == "gave up"
    assert world.pool.stats()["requests_waiting"] == 0
    assert world.pool.stats()["requests_abandoned"] == 1
    world.check()


def test_a_connect_outlives_the_greenlet_that_asked_for_it() -> None:
    """Otherwise no connection is ever made when a connect takes longer than the callers' patience (puddle)."""
    world = World()
    gate = world.server.hold("connect")
    user = world.user()
    world.run()
    user.kill()
    world.run()
    gate.set()
    world.run()
    assert world.gauge(SlotState.IDLE) == 1
    world.check_at_rest()


def test_a_waiter_is_served_by_whatever_comes_first() -> None:
    """A connection that comes back serves the one on whose behalf a connect is still under way."""
    world = World(max_size=2)
    holder = world.user_with_conn()
    world.server.hold("connect")
    waiter = world.user()
    world.run()
    holder.let_go()
    world.run()
    assert waiter.conn is holder.conn


def test_the_time_out_names_the_numbers_and_the_holders() -> None:
    """The exception is the dashboard."""
    world = World(max_size=2, timeout=3, name="default")
    world.user_with_conn(label="/checkout")
    world.pass_time(1)
    world.user_with_conn(label=lambda: "/report")
    waiter, patient = world.user(), world.user(timeout=100)
    world.run()
    world.pass_time(2.9)
    assert waiter.asking
    world.pass_time(0.1)
    assert isinstance(waiter.error, pool_errors.AcquireTimeout)
    text = str(waiter.error)
    assert "within 3 s" in text
    assert "pool 'default': size=2 max=2 leased=2 available=0" in text
    assert "held by /checkout 4.0 s, /report 3.0 s" in text
    assert patient.asking
    assert world.pool.stats()["requests_timeouts"] == 1


def test_a_label_that_fails_spoils_nothing() -> None:
    """It is called for a message, when there is trouble already."""
    world = World(max_size=1)
    world.user_with_conn(label=lambda: 1 / 0)
    with pytest.raises(pool_errors.AcquireTimeout, match="division by zero"):
        world.pool.acquire(timeout=0)


def test_timeout_zero_does_not_wait() -> None:
    """A connection at once, or the refusal at once."""
    world = World(max_size=1)
    holder = world.user_with_conn()
    turns: list[int] = []
    gevent.spawn(turns.append, 1)
    with pytest.raises(pool_errors.AcquireTimeout):
        world.pool.acquire(timeout=0)
    assert not turns, "it let others run"
    holder.let_go()
    world.run()
    world.user_with_conn(timeout=0)


def test_max_waiting_refuses_at_once_but_not_while_the_pool_can_still_grow() -> None:
    """A queue that is too long helps nobody; a pool that is still connecting is not a queue."""
    world = World(max_size=3, max_waiting=2)
    users = [world.user() for _ in range(6)]
    world.run()
    assert [user.conn is not None for user in users] == [True] * 3 + [False] * 3
    assert [user.asking for user in users[3:]] == [True, True, False]
    assert isinstance(users[5].error, pool_errors.QueueFull)
    assert "2 are waiting already; pool" in str(users[5].error)


def test_idle_connections_are_lent_last_in_first_out_but_the_preferred_one_first() -> None:
    """The warmest; or the one that the lease had before."""
    world = World()
    a, b, c = (world.user_with_conn() for _ in range(3))
    for user in (a, b, c):
        user.let_go()
        world.run()
    again = world.user_with_conn()
    assert again.conn is c.conn
    assert world.user_with_conn(prefer=a.conn).conn is a.conn
    assert world.user_with_conn(prefer=a.conn).conn is b.conn


def test_rotate_lends_a_different_connection_each_time() -> None:
    """Strict mode: who depends on the session of the statement before finds out on the laptop."""
    world = World(rotate=True)
    users = [world.user_with_conn() for _ in range(3)]
    for user in users:
        user.let_go()
        world.run()
    last = users[2].conn
    for _ in range(4):
        user = world.user_with_conn(prefer=last)
        assert user.conn is not last
        last = user.conn
        user.let_go()
        world.run()


def test_a_connection_is_checked_only_after_a_quiet_time() -> None:
    """Never a round trip per checkout."""
    world = World(check_after=30)
    for _ in range(3):
        world.user_with_conn().let_go()
        world.run()
    assert world.server.calls["check"] == 0
    world.pass_time(31)
    user = world.user_with_conn()
    assert world.server.calls["check"] == 1
    assert world.server.calls["connect"] == 1
    user.let_go()


def test_a_connection_that_fails_its_check_is_replaced_and_makes_the_others_suspect() -> None:
    """One dead connection closes only itself; but the others are asked before they are trusted again."""
    world = World(check_after=30)
    users = [world.user_with_conn() for _ in range(3)]
    users[0].let_go()
    world.run()
    world.pass_time(20)
    for user in users[1:]:
        user.let_go()
        world.run()
    world.pass_time(15)
    assert users[0].conn is not None
    users[0].conn.broken = True
    holder = [world.user_with_conn() for _ in range(2)]
    assert world.server.calls["check"] == 0
    for user in holder:
        user.let_go()
        world.run()
    holder = [world.user_with_conn() for _ in range(3)]
    assert world.server.calls == {"connect": 4, "check": 1, "close": 1}
    holder[0].let_go()
    world.run()
    assert holder[1].conn is not None
    holder[1].conn.broken = True
    holder[1].let_go()
    world.run()
    world.user_with_conn()
    assert world.server.calls["check"] == 2
    assert world.pool.stats()["returns_bad"] == 1
    assert world.pool.stats()["connections_lost"] == 2, "by a check, and when it came back"


def test_a_connection_expires_with_jitter() -> None:
    """Connections that were born together do not die together."""
    world = World(max_lifetime=100, min_size=0, max_idle=0, rng=random.Random(1))
    users = [world.user_with_conn() for _ in range(5)]
    for user in users:
        user.let_go()
    world.run()
    ends = sorted(slot.expires - world.clock.now for slot in world.pool._ledger)
    assert 90 <= ends[0] < ends[-1] <= 100
    world.pass_time(89)
    assert world.server.calls["close"] == 0
    world.pass_time(12)
    assert world.server.calls["close"] == 5
    world.check_at_rest()


def test_a_leased_connection_expires_when_it_comes_back() -> None:
    """Nobody is interrupted for it."""
    world = World(max_lifetime=100)
    user = world.user_with_conn()
    world.pass_time(101)
    assert world.server.calls["close"] == 0
    user.let_go()
    world.run()
    assert world.server.calls["close"] == 1


def test_idle_connections_are_reaped_down_to_min_size_and_refilled_up_to_it() -> None:
    """By one alarm that rings at the next deadline."""
    world = World(min_size=2, max_idle=60, max_lifetime=0)
    users = [world.user_with_conn() for _ in range(4)]
    for user in users:
        user.let_go()
    world.run()
    assert world.gauge(SlotState.IDLE) == 4
    world.pass_time(59)
    assert world.pool._state.upkeep.at == world.clock.now + 1
    world.pass_time(1)
    assert world.gauge(SlotState.IDLE) == 2
    assert world.pool.stats()["connections_reaped"] == 2
    world.user_with_conn().let_go(world.pool.discard)
    world.run()
    assert world.gauge(SlotState.IDLE) == 2
    world.check_at_rest()


def test_warm_fills_up_without_a_request() -> None:
    """For a worker that is about to be ready."""
    world = World(min_size=3)
    assert world.server.calls["connect"] == 0
    world.pool.warm()
    world.run()
    assert world.gauge(SlotState.IDLE) == 3


def test_an_abandoned_query_is_cancelled_and_its_slot_stays_taken_until_it_is_gone() -> None:
    """Otherwise the server has more connections than max_size."""
    world = World(max_size=1)
    user = world.user_with_conn()
    assert user.conn is not None
    user.conn.busy = True
    gate = world.server.hold("cancel")
    user.let_go()
    waiter = world.user()
    world.run()
    assert waiter.asking
    assert world.gauge(SlotState.CANCELLING) == 1
    gate.set()
    world.run()
    assert waiter.conn is not None
    assert waiter.conn is not user.conn
    assert world.server.calls == {"connect": 2, "cancel": 1, "close": 1}


def test_a_job_that_never_ends_is_ended() -> None:
    """A cancel and a close that hang do not take a slot for ever; the local end is dropped."""
    world = World(max_size=1, io_timeout=5, connect_timeout=10)
    world.server.hold("cancel")
    world.server.hold("close")
    user = world.user_with_conn()
    assert user.conn is not None
    user.conn.busy = True
    user.let_go()
    world.run()
    world.pass_time(10)
    assert world.gauge(SlotState.CLOSING) == 1
    world.pass_time(10)
    assert world.server.forgotten == [user.conn]
    assert world.pool.stats()["connections_forgotten"] == 1
    world.check_at_rest()
    world.server.hold("connect")
    waiter = world.user(timeout=60)
    world.run()
    world.pass_time(10)
    assert waiter.asking
    assert world.pool.stats()["connections_errors"] == 1


def test_release_with_reset_wipes_the_session_before_the_next_one_gets_it() -> None:
    """And a connection that cannot be wiped is closed."""
    world = World(max_size=1)
    user = world.user_with_conn()
    assert user.conn is not None
    user.conn.dirty = True
    waiter = world.user()
    user.let_go(lambda conn: world.pool.release(conn, reset=True))
    world.run()
    assert waiter.conn is user.conn
    world.server.fails = lambda verb: verb == "reset"
    last = world.user()
    waiter.let_go(lambda conn: world.pool.release(conn, reset=True))
    world.run()
    assert last.conn is not None
    assert last.conn is not waiter.conn
    world.check()


@pytest.mark.parametrize("end", ["return", "raise", "kill"])
def test_a_connection_comes_back_when_its_greenlet_ends(end: str) -> None:
    """Whatever the reason, and without any garbage collection."""
    world = World(max_size=1)

    def leak() -> None:
        conn = world.pool.acquire(label="/leaky")
        conn.dirty = True
        if end == "raise":
            raise gevent.GreenletExit
        if end == "kill":
            gevent.sleep(1000)

    leaky = gevent.spawn(leak)
    world.run()
    if end == "kill":
        leaky.kill(block=False)
    waiter = world.user_with_conn()
    assert waiter.conn is not None
    assert world.server.calls == {"connect": 1, "reset": 1}
    assert world.events == ["pool_reclaimed"]
    assert world.pool.stats()["connections_reclaimed"] == 1


def test_a_raw_greenlet_that_ends_is_noticed_when_someone_waits() -> None:
    """It has no links; it is looked at before anybody queues up."""
    world = World(max_size=1)
    raw = greenlet.greenlet(world.pool.acquire, parent=gevent.get_hub())
    gevent.get_hub().loop.run_callback(raw.switch)
    world.run()
    assert raw.dead
    assert world.gauge(SlotState.LEASED) == 1
    assert world.user_with_conn().conn is not None


def test_a_raw_greenlet_that_is_collected_gives_back() -> None:
    """By the weak reference to it."""
    world = World(max_size=1)
    raw = greenlet.greenlet(lambda: str(world.pool.acquire()), parent=gevent.get_hub())
    gevent.get_hub().loop.run_callback(raw.switch)
    world.run()
    del raw
    world.run()
    assert world.gauge(SlotState.IDLE) == 1


def test_the_main_greenlet_may_lease() -> None:
    """A management command has no other."""
    world = World()
    conn = world.pool.acquire()
    world.pool.release(conn)
    assert world.gauge(SlotState.IDLE) == 1


def test_an_orphan_is_taken_back_by_its_ticket_and_never_from_a_stranger() -> None:
    """A late finalizer must not take the connection away from its next holder."""
    world = World(max_size=1)
    conn = world.pool.acquire()
    ticket = world.pool.ticket(conn)
    world.pool.orphan(conn, ticket)
    assert world.gauge(SlotState.LEASED) == 1
    world.run()
    assert world.gauge(SlotState.IDLE) == 1
    stranger = world.user_with_conn()
    assert stranger.conn is conn
    world.pool.orphan(conn, ticket)
    world.pool.release(conn, ticket=ticket)
    world.pool.discard(conn, ticket=ticket)
    world.run()
    world.check()
    assert world.gauge(SlotState.LEASED) == 1


def test_the_death_of_a_stranger_takes_nothing_back() -> None:
    """A link that is late must not end the lease of somebody else."""
    world = World()
    user = world.user_with_conn()
    stranger = gevent.spawn(lambda: None)
    stranger.join()
    for slot in world.pool._ledger:
        slot(stranger)
    assert world.gauge(SlotState.LEASED) == 1
    user.let_go()
    world.run()
    for slot in world.pool._ledger:
        slot(user.greenlet)
    world.check_at_rest()


def test_a_lease_leaves_no_trace_on_its_greenlet() -> None:
    """A greenlet that lives as long as a keep-alive connection leases thousands of times."""
    world = World()

    def lease_often() -> bool:
        for _ in range(3):
            world.pool.release(world.pool.acquire())
        return gevent.getcurrent().has_links()  # type: ignore[attr-defined, no-any-return]

    user = gevent.spawn(lease_often)
    world.run()
    assert user.value is False


def test_a_driver_that_breaks_its_word_costs_its_connection_only() -> None:
    """`is_broken` must not raise. If it does, the slot must not be lost for it."""
    world = World(max_size=1)
    user = world.user_with_conn()
    del user.conn.broken  # type: ignore[union-attr]
    user.let_go()
    world.run()
    world.check_at_rest()
    assert world.user_with_conn().conn is not user.conn


def test_orphans_after_the_end_are_of_no_interest() -> None:
    """A finalizer may run when there is no event loop any more, or in the child of a fork."""
    world = World()
    conn = world.pool.acquire()
    ticket = world.pool.ticket(conn)
    world.pool.forget()
    world.pool.orphan(conn, ticket)
    assert world.pool.ticket(conn) == 0


def test_the_refusals_are_operational_errors_for_django() -> None:
    """So that `except OperationalError` catches them; and the pool's own names do too."""
    world = World(max_size=1, refusals=errors.DJANGO)
    world.user_with_conn()
    with pytest.raises(OperationalError, match="no connection within 0 s") as caught:
        world.pool.acquire(timeout=0)
    assert isinstance(caught.value, pool_errors.AcquireTimeout)
    assert caught.type is errors.PoolTimeout


def test_misuse_is_called_a_bug() -> None:
    """Impossible states are not repaired quietly."""
    world = World()
    user = world.user_with_conn()
    assert user.conn is not None
    with pytest.raises(Bug, match="bug: <conn 0> is not lent to this greenlet"):
        world.pool.release(user.conn)
    conn = world.pool.acquire()
    world.pool.release(conn)
    with pytest.raises(Bug, match="bug: "):
        world.pool.release(conn)
    slot = world.pool._ledger.by_conn[conn]
    with pytest.raises(Bug, match="bug: a slot cannot go from IDLE to RESETTING"):
        world.pool._ledger.move(slot, SlotState.RESETTING)


def test_another_thread_is_turned_away() -> None:
    """Its greenlets could not be woken from here."""
    world = World()
    world.pool.release(world.pool.acquire())
    caught: list[BaseException] = []

    def intrude() -> None:
        try:
            world.pool.acquire()
        except pool_errors.ForeignThread as error:
            caught.append(error)

    thread = threading.Thread(target=intrude)
    thread.start()
    thread.join()
    assert "belongs to the main thread" in str(caught[0])


def test_a_resize_grows_at_once_and_interrupts_no_lease() -> None:
    """Grows at once for those who wait; shrinks without interrupting anybody."""
    world = World(max_size=1)
    users = [world.user() for _ in range(4)]
    world.run()
    world.server.bound = 4
    world.pool.resize(0, 4)
    world.run()
    assert all(user.conn for user in users)
    users[0].let_go()
    world.run()
    world.pool.resize(0, 2)
    world.run()
    assert world.pool.stats()["pool_size"] == 3
    for user in users:
        user.let_go()
    world.run()
    assert world.pool.stats()["pool_size"] == 2
    world.check_at_rest()


def test_drain_replaces_all_connections() -> None:
    """Those too that are leased, or just being made."""
    world = World()
    held, idle = world.user_with_conn(), world.user_with_conn()
    idle.let_go()
    world.run()
    gate = world.server.hold("connect")
    late = [world.user() for _ in range(2)]
    world.run()
    world.pool.drain()
    held.let_go()
    gate.set()
    world.run()
    old = {held.conn, idle.conn}
    assert world.server.calls["connect"] == 2 + 1 + 1  # the one under way was made before the drain: it does not count
    assert all(user.conn is not None for user in late)
    for user in late:
        user.let_go()
    world.run()
    assert not old & world.server.sessions
    world.check_at_rest()


def test_a_drain_that_waits_sees_a_session_that_is_being_wiped_to_its_end() -> None:
    """It is closed when it has been wiped, and only then is the server rid of it."""
    world = World()
    user = world.user_with_conn()
    gate = world.server.hold("reset")
    user.let_go(lambda conn: world.pool.release(conn, reset=True))
    world.run()
    assert world.gauge(SlotState.RESETTING) == 1
    gevent.spawn(gate.set)
    world.pool.drain(10)
    assert not world.server.sessions
    world.check_at_rest()


def test_a_close_tells_waiters_and_ends_connections() -> None:
    """Waiters are told, idle connections closed, leased ones when they come back."""
    world = World(max_size=2)
    held, idle = world.user_with_conn(), world.user_with_conn()
    waiter = world.user()
    world.run()
    idle.let_go()
    world.run()
    assert waiter.conn is not None
    late = world.user()
    world.run()
    world.pool.close(timeout=5)
    world.run()
    assert isinstance(late.error, pool_errors.Closed)
    held.let_go()
    waiter.let_go()
    world.run()
    assert not world.server.sessions
    with pytest.raises(pool_errors.Closed):
        world.pool.acquire()


def test_recall_at_the_end_of_the_process() -> None:
    """What is out comes back at once: a query that runs is cancelled, and its user's own release is of no consequence."""
    world = World(max_size=3)
    running, thinking, idle = (world.user_with_conn() for _ in range(3))
    assert running.conn is not None
    running.conn.busy = True
    idle.let_go()
    world.run()
    world.pool.close()
    world.pool.recall()
    world.run()
    assert not world.server.sessions
    assert world.server.calls == {"connect": 3, "cancel": 1, "close": 3}
    for user in (running, thinking):
        user.let_go()
    world.run()
    world.check_at_rest()


def test_a_connection_that_a_caller_makes_itself() -> None:
    """`connect` is used once, for the one who brought it."""
    world = World()
    made = []

    def connect() -> object:
        made.append(world.server.connect())
        return made[-1]

    users = [world.user(connect=connect), world.user()]
    world.run()
    assert len(made) == 1
    assert {user.conn for user in users} >= set(made)


def test_all_numbers_that_are_wrong_are_listed_at_once() -> None:
    """Refused, never repaired."""
    with pytest.raises(
        ValueError, match=r"timeout=-1 is negative; max_size=0: .*; min_size=2 is above max_size=0; io_timeout=0"
    ):
        limits(min_size=2, max_size=0, timeout=-1, io_timeout=0)


def test_stats_use_the_names_of_psycopg_pool() -> None:
    """So that dashboards go on working."""
    world = World(min_size=1, max_size=2)
    world.user_with_conn()
    stats = world.pool.stats()
    theirs = (
        "pool_min pool_max pool_size pool_available requests_waiting requests_num requests_queued requests_wait_ms"
        " requests_errors usage_ms returns_bad connections_num connections_ms connections_errors connections_lost"
    )
    assert set(theirs.split()) <= set(stats)
    assert (stats["pool_size"], stats["pool_leased"], stats["requests_num"]) == (1, 1, 1)


def test_a_pool_and_its_parts_show_themselves_to_a_debugger() -> None:
    world = World(max_size=1)
    holder = world.user_with_conn()
    world.user()
    world.run()
    assert repr(world.pool) == "<pool 'default': <ledger {'leased': 1}>, 1 waiting>"
    assert "LEASED" in repr(world.pool.leased()[0])
    assert repr(holder.conn) in repr(world.pool.leased()[0])

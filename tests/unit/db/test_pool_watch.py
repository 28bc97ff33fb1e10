"""The watch over a pool, with a clock of the test's own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from djworker.conf.pool_table import PoolOptions
from djworker.db.lease.session_record import SessionRecord
from djworker.db.lease.tape import Tape
from djworker.db.observe.pool_watch import PoolWatch
from djworker.db.observe.slow_acquires import KEPT
from djworker.log.format import EVENT, FIELDS
from tests.unit.db.world import Conn, World


class Green:
    """What a pool_watch asks of a driver."""

    def __init__(self) -> None:
        self.inside: bool | None = True
        self.autocommit_mode = False

    def busy(self, conn: Conn) -> bool:
        return conn.busy

    def in_transaction(self, conn: Conn) -> bool | None:
        return self.inside

    def autocommit(self, conn: Conn) -> bool:
        return self.autocommit_mode


class Seen(logging.Handler):
    """The events that were logged."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.events.append((getattr(record, EVENT), getattr(record, FIELDS)))
        self.messages.append(record.getMessage())

    @property
    def names(self) -> list[str]:
        """Of the events."""
        return [name for name, _ in self.events]


@pytest.fixture
def seen() -> Iterator[Seen]:
    """What is logged meanwhile."""
    handler, logger = Seen(), logging.getLogger("djworker.db")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


class Watched(World):
    """A pool with a pool_watch."""

    def __init__(self, **thresholds: float) -> None:
        self.green = Green()
        off = {"slow_acquire": 0.0, "long_hold": 0.0, "idle_in_transaction": 0.0}
        self.pool_watch = PoolWatch(PoolOptions(**{**off, **thresholds}), self.green)  # type: ignore[arg-type]
        super().__init__(max_size=1, on_wait=self.pool_watch.waited)
        self.pool_watch.pool = self.pool

    def beat(self, seconds: float) -> None:
        """So much later, the pool_watch looks."""
        self.clock.now += seconds
        self.pool_watch.look(self.clock.now)


def test_a_long_hold_is_told_with_view_and_stack(seen: Seen) -> None:
    world = Watched(long_hold=60.0)
    user = world.user_with_conn(label="/report")
    world.beat(59.0)
    assert not seen.events
    world.beat(2.0)
    world.beat(1.0)
    ((name, fields),) = seen.events
    assert name == "long_hold"
    assert (fields["pool"], fields["view"], fields["age"], fields["suppressed"]) == ("default", "/report", 61.0, 0)
    assert "world.py" in fields["stack"]
    assert "_run" in fields["stack"]
    assert seen.messages == ["pool 'default': /report has held a connection for 61.0 s"]
    user.let_go()
    world.run()
    world.check_at_rest()


def test_an_idle_transaction_is_told_with_its_idle_time(seen: Seen) -> None:
    world = Watched(idle_in_transaction=10.0)
    conn: Any = world.user_with_conn(label=lambda: "/checkout").conn
    conn.lease_record = SessionRecord(Tape(), statements=1)
    world.beat(0.0)
    world.beat(8.0)
    conn.lease_record.statements = 2
    world.beat(1.0)
    world.beat(9.0)
    assert not seen.events
    world.beat(1.0)
    ((name, fields),) = seen.events
    assert name == "idle_in_transaction"
    assert (fields["view"], fields["idle"], fields["age"]) == ("/checkout", 10.0, 19.0)


@pytest.mark.parametrize("answer", [None, False])
def test_where_the_library_does_not_tell_the_mode_does(seen: Seen, *, answer: bool | None) -> None:
    world = Watched(idle_in_transaction=10.0)
    conn: Any = world.user_with_conn().conn
    conn.lease_record = SessionRecord(Tape(), statements=1)
    world.green.inside, world.green.autocommit_mode = answer, True
    world.beat(0.0)
    world.beat(20.0)
    assert not seen.events
    world.green.autocommit_mode = False
    world.beat(20.0)
    assert seen.names == ["idle_in_transaction"]


def test_without_a_count_of_statements_nothing_is_claimed(seen: Seen) -> None:
    """django-db-geventpool's cursors are not ours."""
    world = Watched(idle_in_transaction=10.0)
    world.user_with_conn()
    world.beat(0.0)
    world.beat(100.0)
    assert not seen.events


def test_a_slow_acquire_is_told_with_the_numbers(seen: Seen) -> None:
    world = Watched(slow_acquire=1.0)
    holder = world.user_with_conn(label="/report")
    waiter, other = world.user(label="/slow"), world.user(label="/quick")
    world.run()
    world.clock.now += 2.5
    holder.let_go()
    world.run()
    assert waiter.conn
    assert not seen.events  # not before the beat
    world.beat(0.1)
    world.beat(0.1)
    ((name, fields),) = seen.events
    assert (name, fields["view"], fields["waited"]) == ("slow_acquire", "/slow", 2.5)
    assert (fields["size"], fields["max"], fields["available"], fields["waiting"]) == (1, 1, 0, 1)
    waiter.let_go()
    other.let_go()
    world.run()
    world.check_at_rest()


def test_the_pool_is_not_blamed_where_the_cpu_was_late(seen: Seen) -> None:
    """The connection was offered at once; other work kept the greenlet from its turn."""
    world = Watched(slow_acquire=1.0)
    holder = world.user_with_conn()
    waiter = world.user(label="/late")
    world.run()

    def release_and_keep_the_cpu(conn: Any) -> None:
        world.give_back(conn)
        world.clock.now += 5.0

    holder.let_go(release_and_keep_the_cpu)
    world.run()
    assert waiter.conn
    world.beat(0.1)
    assert not seen.events
    assert world.pool.stats()["requests_wait_ms"] >= 5000, "the request has waited all the same"
    waiter.let_go()
    world.run()
    world.check_at_rest()


def test_one_that_waits_in_vain_was_slow_too(seen: Seen) -> None:
    world = Watched(slow_acquire=1.0)
    world.user_with_conn()
    waiter = world.user(label="/late", timeout=5)
    killed = world.user(label="/killed")
    world.run()
    world.pass_time(5.0)
    killed.kill()
    world.run()
    world.beat(0.0)
    assert not waiter.asking
    assert {fields["view"] for _, fields in seen.events} == {"/late", "/killed"}


def test_one_line_per_view_and_minute_and_none_is_lost(seen: Seen) -> None:
    world = Watched(slow_acquire=1.0)
    for _ in range(KEPT + 5):
        world.pool_watch.waited(2.0, "/busy")
    world.pool_watch.waited(0.5, "/quick")
    world.beat(0.0)
    assert [fields["suppressed"] for _, fields in seen.events] == [5]
    world.pool_watch.waited(2.0, "/busy")
    world.beat(59.0)
    assert len(seen.events) == 1
    world.pool_watch.waited(2.0, "/busy")
    world.beat(2.0)
    assert [1 + fields["suppressed"] for _, fields in seen.events] == [6, KEPT + 1]
    assert "20 more like this were left out" in seen.messages[-1]


def test_the_events_of_one_view_are_limited_each_for_itself(seen: Seen) -> None:
    world = Watched(long_hold=5.0, idle_in_transaction=5.0)
    conn: Any = world.user_with_conn(label="/both").conn
    conn.lease_record = SessionRecord(Tape(), statements=1)
    world.beat(0.0)
    world.beat(6.0)
    assert sorted(seen.names) == ["idle_in_transaction", "long_hold"]


def test_a_greenlet_that_has_ended_has_no_stack(seen: Seen) -> None:
    world = Watched(long_hold=5.0)
    world.user_with_conn(label="/dead")
    (slot,) = world.pool.leased()
    slot.owner = None
    world.beat(6.0)
    assert seen.events[0][1]["stack"] == "(its greenlet has ended)"


def test_a_label_that_fails_is_named_and_the_look_goes_on(seen: Seen) -> None:
    world = Watched(long_hold=5.0, slow_acquire=1.0)
    world.user_with_conn(label=lambda: 1 / 0)
    world.pool_watch.waited(2.0, lambda: str(1 / 0))
    world.pool_watch.waited(2.0, "/fine")
    world.beat(6.0)
    assert sorted(seen.names) == ["long_hold", "slow_acquire", "slow_acquire"]


def test_a_look_never_switches() -> None:
    world = Watched(long_hold=5.0, idle_in_transaction=5.0, slow_acquire=1.0)
    world.user_with_conn(label="/x")
    world.pool_watch.waited(2.0, "/y")
    ran: list[int] = []
    gevent.spawn(ran.append, 1)
    world.beat(6.0)
    assert not ran
    world.run()
    assert ran

"""A database server and its driver as the pool sees them, and greenlets that use the pool, all in one process.

The pool knows no database, so a stand-in is the real thing here. Every verb of the driver yields to the hub `slowness`
times, can be made to fail, and can be held at a gate. The server itself watches the bound.
"""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event

from djworker.conf.pool_table import PoolOptions
from djworker.db.pool.driver import Useless
from djworker.db.pool.limits import Limits
from djworker.db.pool.pool import Pool
from djworker.db.pool.slots import SlotState

if TYPE_CHECKING:
    from collections.abc import Callable


class Conn:
    """One physical connection, both ends."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.broken = False
        self.busy = False
        self.dirty = False
        self.closed = False

    def __repr__(self) -> str:
        return f"<conn {self.number}>"


class DriverError(Exception):
    """What the driver raises."""


class Ended(DriverError):
    """An operator ended the session during its login."""


class FakeServer:
    """The driver and the server behind it."""

    def __init__(self) -> None:
        self.sessions: set[Conn] = set()  # as the server counts them: from the first packet to the last
        self.bound = 10
        self.up = True
        self.ends_logins = False
        self.useless = False  # what a reset finds out
        self.slowness: Callable[[], int] = lambda: 1
        self.fails: Callable[[str], bool] = lambda _verb: False
        self.gates: dict[str, Event] = {}
        self.calls: Counter[str] = Counter()
        self.forgotten: list[Conn] = []
        self.violations: list[str] = []

    def connect(self) -> Conn:
        conn = Conn(self.calls["connect"])
        self.sessions.add(conn)
        if len(self.sessions) > self.bound:
            self.violations.append(f"{len(self.sessions)} sessions, at most {self.bound} are allowed")
        try:
            self._visit("connect")
            if self.ends_logins:
                raise Ended("terminating connection due to administrator command")  # noqa: TRY301 - likewise
            if not self.up:
                raise DriverError("connection refused")  # noqa: TRY301 - as a real one does, half-way
        except BaseException:
            self.sessions.discard(conn)
            raise
        return conn

    def close(self, conn: Conn, /) -> None:
        if conn.closed:
            self.violations.append(f"{conn} closed twice")
        conn.closed = True
        try:
            self._visit("close")
        finally:
            self.sessions.discard(conn)

    def check(self, conn: Conn, /) -> None:
        self._visit("check")
        if conn.broken or not self.up:
            conn.broken = True
            msg = "server closed the connection"
            raise DriverError(msg)

    def is_broken(self, conn: Conn, /) -> bool:
        return conn.broken

    def busy(self, conn: Conn, /) -> bool:
        return conn.busy

    def explain(self, error: BaseException, /) -> str:
        return str(error)

    def ended_by_hand(self, error: BaseException, /) -> bool:
        return isinstance(error, Ended)

    def cancel(self, conn: Conn, /) -> None:
        self._visit("cancel")
        conn.busy = False

    def reset(self, conn: Conn, /) -> None:
        self._visit("reset")
        if self.useless:
            raise Useless("read-only")
        conn.dirty = False

    def forget(self, conn: Conn, /) -> None:
        self.forgotten.append(conn)
        self.sessions.discard(conn)

    def hold(self, verb: str) -> Event:
        """Calls of this verb stop until the event is set."""
        return self.gates.setdefault(verb, Event())

    def crash(self) -> None:
        """All connections die."""
        self.up = False
        for conn in self.sessions:
            conn.broken = True

    def _visit(self, verb: str) -> None:
        self.calls[verb] += 1
        for _ in range(self.slowness()):
            gevent.sleep(0)
        if verb in self.gates:
            self.gates[verb].wait()
        if self.fails(verb):
            msg = f"{verb} failed"
            raise DriverError(msg)


class Clock:
    """Time stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class User:
    """A greenlet that asks for a connection, holds it until told to let go, and gives it back."""

    def __init__(self, world: World, **acquire: Any) -> None:
        self.world = world
        self.conn: Conn | None = None
        self.error: BaseException | None = None
        self.number = next(world.numbers)
        world.users.append(self)
        self.exit: Callable[[Conn], None] = world.pool.release
        self._let_go = Event()
        self._acquire = acquire
        self.greenlet = gevent.spawn(self._run)

    @property
    def asking(self) -> bool:
        """Still without an answer."""
        return self.conn is None and not self.greenlet.dead and self.error is None

    def let_go(self, how: Callable[[Conn], None] | None = None) -> None:
        """Give the connection back, with `how`."""
        self.exit = how or self.exit
        self._let_go.set()

    def kill(self) -> None:
        """From outside, at whatever point it is."""
        self.greenlet.kill(block=False)

    def _run(self) -> None:
        try:
            conn = self.world.pool.acquire(**self._acquire)
        except BaseException as error:
            self.error = error
            if isinstance(error, Exception):
                return
            raise
        self.world.got(self, conn)
        self._let_go.wait()  # a kill here leaves without giving back: the pool must notice by itself
        self.world.held.pop(conn)
        self.exit(conn)


def limits(**numbers: float) -> Limits:
    """The numbers of a pool: its options' defaults, but for these."""
    return Limits(**{**PoolOptions().for_pool(), **numbers})


class World:
    """One pool, its server, its users, and what must always hold."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.server = FakeServer()
        self.server.bound = options.get("max_size", 10)
        self.events: list[str] = []
        options.setdefault("clock", self.clock)
        numbers = {name: options.pop(name) for name in Limits.__dataclass_fields__ if name in options}
        self.pool: Pool[Conn] = Pool(
            self.server, limits(**numbers), notify=lambda event, *_, **__: self.events.append(event), **options
        )
        self.users: list[User] = []
        self.numbers = count()
        self.held: dict[Conn, User] = {}
        self.wrongs: list[str] = []

    def user(self, **acquire: Any) -> User:
        """Start a greenlet that acquires; it runs when the hub does."""
        return User(self, **acquire)

    def user_with_conn(self, **acquire: Any) -> User:
        """Start one and let it have its connection."""
        user = self.user(**acquire)
        self.run()
        assert user.conn is not None
        return user

    def give_back(self, conn: Conn, *, busy: bool = False, broken: bool = False) -> None:
        """Release a connection on which something happened."""
        conn.busy, conn.broken = busy, broken
        self.pool.release(conn)

    def run(self, turns: int = 60) -> None:
        """Let the hub run until everything has happened that can happen by itself."""
        for _ in range(turns):
            gevent.sleep(0)

    def pass_time(self, seconds: float) -> None:
        """Move the clock and let the pool look at it."""
        self.clock.now += seconds
        self.pool.sweep()
        self.run()

    def got(self, user: User, conn: Conn) -> None:
        """A user has a connection: nobody else may have it, and nobody who came before may still be in the queue."""
        other = self.held.get(conn)
        if other is not None and not other.greenlet.dead:
            self.wrongs.append(f"{conn} belongs to users {other.number} and {user.number}")
        if conn.closed or conn.busy or conn.dirty:
            self.wrongs.append(f"{conn} was lent though {vars(conn)}")
        asleep = {waiter._wake.greenlet for waiter in self.pool._state.queue.waiting}
        passed_over = [each.number for each in self.users if each.greenlet in asleep and each.number < user.number]
        if passed_over:
            self.wrongs.append(f"user {user.number} was served before {passed_over}")
        self.held[conn] = user
        user.conn = conn

    def gauge(self, state: SlotState) -> int:
        """How many slots are in a state."""
        return len(self.pool._ledger.lists[state])

    def check(self) -> None:
        """What holds at every moment."""
        ledger, server = self.pool._ledger, self.server
        assert not self.wrongs, self.wrongs
        assert not server.violations, server.violations
        for state, slots in zip(SlotState, ledger.lists, strict=False):
            assert all(slot.state is state and slot.shelf is slots for slot in slots)
            assert all((slot.ticket > 0) is (state is SlotState.LEASED) for slot in slots)
        with_conn = {slot.conn for slot in ledger if hasattr(slot, "conn")}
        assert with_conn == set(ledger.by_conn)
        alive = {conn for conn, user in self.held.items() if not user.greenlet.dead}
        leased = {slot.conn for slot in ledger.lists[SlotState.LEASED]}
        assert alive <= leased, f"taken from a living owner: {alive - leased}"
        self._check_nobody_sleeps_in_vain()

    def _check_nobody_sleeps_in_vain(self) -> None:
        pool, ledger, now = self.pool, self.pool._ledger, self.clock.now
        coming = ledger.count(SlotState.CONNECTING, SlotState.CHECKING, SlotState.RESETTING)
        if len(pool._state.queue.waiting) > coming:
            assert not ledger.lists[SlotState.IDLE], "a waiter sleeps beside an idle connection"
            full = ledger.size >= pool.limits.max_size
            slowly = self.gauge(SlotState.CONNECTING) >= pool._state.circuit.window
            assert full or pool._state.circuit.failing or slowly, "a waiter sleeps beside a free slot"
        if pool._state.queue.waiting:
            assert pool._state.waits.at < float("inf"), "a waiter sleeps without an alarm"
            fresh = [slot for slot in ledger.lists[SlotState.IDLE] if now < slot.fresh_until]
            assert not fresh, "a waiter sleeps beside a fresh connection"

    def check_at_rest(self) -> None:
        """What holds when all users are gone and all has been done."""
        self.check()
        ledger = self.pool._ledger
        assert not self.pool._state.queue.waiting
        assert ledger.size == self.gauge(SlotState.IDLE), {s.name: self.gauge(s) for s in list(SlotState)[:-1]}
        assert self.server.sessions == {slot.conn for slot in ledger}
        assert not len(self.pool._maintenance.tasks)

"""The green pool: lends a bounded number of connections to any number of greenlets, first come, first served.

It knows no database, no driver and no Django: see `driver.PoolDriver` for what it asks. Everything runs in one thread, so
nothing is locked; instead, nothing but `acquire` (and `close` or `drain` with a time) ever switches greenlets. So there
are only two points at which a greenlet can be killed inside the pool: asleep in the queue, and between a hand-off and its
waking. What takes time (connect, check, reset, cancel, close) runs in greenlets of the pool's own.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import time
import weakref
from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Generic

from gevent import Greenlet, getcurrent

from djworker.bug import Bug
from djworker.db.pool import refusing
from djworker.db.pool.driver import C, PoolDriver
from djworker.db.pool.errors import PLAIN, Refusals
from djworker.db.pool.limits import Limits
from djworker.db.pool.scheduler import Scheduler
from djworker.db.pool.slots import Slot, SlotState
from djworker.db.pool.state import State
from djworker.db.pool.stats import Holder, gauges
from djworker.db.pool.threads import MAIN_THREAD
from djworker.db.pool.threads import thread_id as _thread_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlet import greenlet

    from djworker.db.pool.bound import Bound
    from djworker.db.pool.slots import Label

_IDLE: Final = SlotState.IDLE
_LEASED: Final = SlotState.LEASED


class Pool(Generic[C]):
    """[worker] Connections for the greenlets of one thread.

    `rotate` lends the least recently used connection and ignores `prefer`, to bring hidden dependence on a session to light.
    `refusals` are the classes that it raises. `notify(event, message, **fields)` is told of outages and reclaims.
    `on_wait(seconds, label=…)` is told how long it took until an acquire was offered a connection, or gave up; it must not
    switch, nor raise.
    """

    def __init__(  # noqa: PLR0913 - keywords, and each is a collaborator of its own
        self,
        driver: PoolDriver[C],
        limits: Limits,
        *,
        rotate: bool = False,
        name: str = "default",
        refusals: Refusals = PLAIN,
        notify: Callable[..., None] | None = None,
        on_wait: Callable[..., None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._state: State[C] = State(
            name=name,
            driver=driver,
            limits=limits,
            refusals=refusals,
            notify=notify,
            clock=clock,
            rng=rng,
            sweep=self.sweep,
            reclaim=self._reclaim,
        )
        self._scheduler: Scheduler[C] = Scheduler(self._state)
        self._maintenance = self._scheduler.maintenance
        self._driver = driver
        self._rotate = rotate
        self._on_wait = on_wait
        # The uncontended path is a matter of nanoseconds: these live as long as the pool.
        self._clock = clock
        self._counters = self._state.counters
        self._ledger = self._state.ledger
        self._idle = self._ledger.lists[_IDLE]
        self._tickets = count(1)
        self._thread = 0
        self._raw: dict[Slot[C], None] = {}  # leased by greenlets that are not gevent's
        self._inherited: set[C] = set()  # the parent's connections, after a fork
        _pools.add(self)

    def __repr__(self) -> str:
        return repr(self._state)

    # -- lending --------------------------------------------------------------------------------------------------------------

    def acquire(
        self,
        timeout: float | None = None,
        *,
        prefer: C | None = None,
        connect: Callable[[], C] | None = None,
        label: Label = None,
    ) -> C:
        """Borrow a connection; give it back with `release` or `discard`.

        `timeout`: seconds to wait, 0 for not at all, None for the pool's. `prefer`: taken if it is idle. `connect`: used
        instead of the driver's if a connection must be made on this call's behalf; it runs in a greenlet of the pool,
        perhaps after this call has ended, so it must not touch what the caller goes on using. `label`: who we are, for
        the time-out message; a callable is only called for that. The pool keeps it while the connection is out: it must
        not keep alive the object whose finalizer would give the connection back.

        Raises the pool's refusals: timeout, too_many_waiting, unavailable, closed.
        """
        now = self._clock()
        self._counters.requests_num += 1
        slot = None
        if self._thread == _thread_id():
            slot = self._pick(prefer, now)
        if slot is None:
            slot = self._queue_up(timeout, connect, label, now)
            now = self._clock()
        self._ledger.move(slot, _LEASED)
        slot.ticket = next(self._tickets)
        slot.label = label
        slot.leased_at = now
        self._tie(slot, getcurrent())
        return slot.conn

    def ticket(self, conn: C) -> int:
        """The number of the caller's lease of a connection. Another greenlet, or a finalizer, gives it back with that."""
        slot = self._held(conn, None)
        return 0 if slot is None else slot.ticket

    def release(self, conn: C, *, reset: bool = False, ticket: int | None = None) -> None:
        """Give a connection back. Never switches, and never fails for what has become of the connection.

        The caller is the greenlet that acquired it, or shows the ticket. With `reset` its session is wiped before the
        next one gets it. If a query was abandoned on it, that is cancelled in the server, and the slot stays taken until it
        is gone. Does nothing for a ticket of a lease that has ended already: its owner died, the process was forked.
        """
        slot = self._held(conn, ticket)
        if slot is not None:
            self._take_back(slot, self._clock(), reset=reset)

    def discard(self, conn: C, *, ticket: int | None = None) -> None:
        """Give a connection back that shall not be used again. Otherwise as `release`."""
        slot = self._held(conn, ticket)
        if slot is not None:
            slot.expires = -math.inf
            self._take_back(slot, self._clock(), reset=False)

    def orphan(self, conn: C, ticket: int) -> None:
        """Give back from a finalizer: in any greenlet or thread, at any time. Takes effect when the hub runs next.

        Args:
            conn: the connection.
            ticket: of the lease that is to end.
        """
        hub = self._state.hub
        if hub is not None:
            with contextlib.suppress(Exception):  # the interpreter is ending
                hub.loop.run_callback_threadsafe(self._orphaned, conn, ticket)

    # -- the pool as a whole --------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """For messages."""
        return self._state.name

    @property
    def limits(self) -> Limits:
        """The numbers in force."""
        return self._state.limits

    def resize(self, min_size: int, max_size: int) -> None:
        """Change the sizes. What is too much is closed when it comes back; no request is interrupted.

        Args:
            min_size: connections that are kept open.
            max_size: connections that there may be.
        """
        self._state.limits = replace(self._state.limits, min_size=min_size, max_size=max_size)
        now = self._clock()
        self._maintenance.shed(self._maintenance.excess, now)
        if self._state.hub is not None:
            self._scheduler.serve(now)

    def warm(self) -> None:
        """Start to fill up to `min_size`, as the first `acquire` does. Does not wait."""
        self._bind()
        self._scheduler.serve(self._clock())

    def drain(self, timeout: float = 0.0) -> None:
        """Replace all connections: the idle ones now, the others when they come back.

        With a `timeout`, waits so many seconds for those that can be closed now.
        """
        self._maintenance.doom(list(self._ledger), self._clock())
        if timeout > 0:
            self._maintenance.tasks.join(timeout)

    def renew(self) -> None:
        """As `drain`, but for the connections that are being made."""
        self._maintenance.doom(list(self._ledger.by_conn.values()), self._clock())

    def reconnect(self) -> None:
        """The way to connect has changed: as `renew` and `forgive`."""
        self.renew()
        self.forgive()

    def forgive(self) -> None:
        """Earlier failures to connect say nothing any more: try again at once, if there are waiters."""
        self._state.circuit.forgive()
        if self._state.hub is not None:
            self._scheduler.serve(self._clock())

    def look_for_server(self, now: float) -> None:
        """During an outage, try to connect though no request waits: a balancer sends no requests as long as there is one."""
        self._scheduler.look_for_server(now)

    def pause(self, seconds: float) -> None:
        """Have requests wait, for so many seconds at most. Every connection is closed: at once, or when it comes back.

        What is lent goes on to its end. A wait that ends with the pause lasts as long as it would have without it.
        """
        now = self._clock()
        self._scheduler.pause(now + seconds, now)
        self.drain()

    def resume(self) -> None:
        """End the pause, and connect anew: earlier failures say nothing any more."""
        self._state.circuit.forgive()
        self._scheduler.end_pause(self._clock())

    @property
    def paused(self) -> float:
        """For how many seconds yet nothing is lent; 0 without a pause."""
        return max(0.0, self._state.paused_until - self._clock())

    def retire(self) -> None:
        """Keep nothing that is not needed: for a worker that drains. What its requests need is still lent."""
        self._scheduler.retire(self._clock())

    def share(self, bound: Bound) -> None:
        """From now on `max_size` is a bound for all pools that share it."""
        bound.add(self._scheduler)

    def close(self, timeout: float = 0.0) -> None:
        """End: waiters are refused, idle connections closed now, the others when they come back. `timeout` as in drain."""
        self._scheduler.close()
        self.drain(timeout)

    def recall(self) -> None:
        """Take back what is out, and close it; queries that run are cancelled in the server. For a process that ends.

        A request that used one gets an error with its next statement.
        """
        now = self._clock()
        for slot in self.leased():
            slot.expires = -math.inf
            self._take_back(slot, now, reset=False)

    def stats(self) -> dict[str, float]:
        """Gauges and counters, under psycopg_pool's names where it has one. Times in milliseconds."""
        how = gauges(self._ledger, len(self._state.queue), self.limits, self._state.circuit)
        return how | self._counters.as_dict()

    def connections(self) -> list[C]:
        """All that there are, whatever is done with them now."""
        return list(self._ledger.by_conn)

    @property
    def shares(self) -> bool:
        """Whether the bound is shared with other pools that still are."""
        bound = self._state.bound
        return bound is not None and len(bound) > 1

    def leased(self) -> list[Slot[C]]:
        """What is out, the longest first. A label, an owner and a ticket hold only until the next switch."""
        return list(self._ledger.lists[_LEASED])

    def sweep(self) -> None:
        """Do all that is due: called by the timers, and by tests that own the clock. Never switches."""
        self._reclaim_dead()
        self._scheduler.sweep(self._clock())

    def forget(self) -> None:
        """After a fork, in the child: all that we have is the parent's. Says no word to the server."""
        self._inherited.update(self._scheduler.forget())
        self._raw.clear()
        self._thread = 0

    # -- taking ---------------------------------------------------------------------------------------------------------------

    def _pick(self, prefer: C | None, now: float) -> Slot[C] | None:
        """An idle connection that may be lent as it is. Affinity first, then the warmest.

        No waiter is overtaken: while one waits, a connection that is fresh is never idle.
        """
        idle = self._idle
        if not idle:
            return None
        if self._rotate:
            slot = next(iter(idle))
            return slot if now < slot.fresh_until else None
        if prefer is not None:
            preferred = self._ledger.by_conn.get(prefer)
            if preferred is not None and preferred.state is _IDLE and now < preferred.fresh_until:
                return preferred
        slot = next(reversed(idle))
        return slot if now < slot.fresh_until else None

    def _queue_up(self, timeout: float | None, connect: Callable[[], C] | None, label: Label, now: float) -> Slot[C]:
        self._bind()
        if self._raw:
            self._reclaim_dead()
        on_wait = partial(self._on_wait, label=label) if self._on_wait is not None else None
        return self._scheduler.wait(timeout, connect, now, on_wait)

    def _bind(self) -> None:
        thread = _thread_id()
        if thread != (self._thread or MAIN_THREAD):  # a native thread that comes first must not settle it for all
            raise refusing.wrong_thread(self._state)
        self._thread = thread
        self._scheduler.bind()

    # -- giving back ----------------------------------------------------------------------------------------------------------

    def _held(self, conn: C, ticket: int | None) -> Slot[C] | None:
        """The slot of the caller's lease; None if that has ended behind the caller's back."""
        slot = self._ledger.by_conn.get(conn)
        if ticket is not None:
            if slot is None or slot.ticket != ticket:
                return None
            if self._thread == _thread_id():
                return slot
        elif slot is not None and slot.owner is not None and slot.owner() is getcurrent():
            return slot
        elif conn in self._inherited:
            return None
        msg = f"bug: {conn!r} is not lent to this greenlet by pool {self.name!r}"
        raise Bug(msg)

    def _take_back(self, slot: Slot[C], now: float, *, reset: bool) -> None:
        """The one way out of LEASED. What state the connection is in decides where to."""
        self._untie(slot)
        slot.ticket = 0
        slot.label = None
        counters, maintenance, driver, conn = self._counters, self._maintenance, self._driver, slot.conn
        counters.usage_ms += (now - slot.leased_at) * 1000
        counters.returns_num += 1
        try:
            busy, broken = driver.busy(conn), driver.is_broken(conn)
        except Exception:  # noqa: BLE001 - it must not; but a slot that is lost is lost for ever
            busy, broken = False, True
        if busy:
            counters.returns_bad += 1
            maintenance.cancel(slot, now)
        elif broken:
            counters.returns_bad += 1
            counters.connections_lost += 1
            maintenance.suspect_idle()
            maintenance.close(slot, now)
        else:
            self._state.sign_at = now
            if now >= slot.expires:
                maintenance.expire(slot, now)
            elif reset:
                maintenance.reset(slot, now)
            else:
                self._scheduler.usable(slot, now)

    # -- a lease and its owner ------------------------------------------------------------------------------------------------

    def _tie(self, slot: Slot[C], owner: greenlet) -> None:
        if isinstance(owner, Greenlet):
            slot.owner = weakref.ref(owner)
            owner.rawlink(slot)
        else:  # the main greenlet, or one that is not gevent's: it has no links, only its collection is noticed
            slot.owner = weakref.ref(owner, partial(self._raw_owner_gone, slot, slot.ticket))
            self._raw[slot] = None

    def _untie(self, slot: Slot[C]) -> None:
        owner = slot.owner() if slot.owner is not None else None
        if isinstance(owner, Greenlet):
            owner.unlink(slot)
        else:
            self._raw.pop(slot, None)
        slot.owner = None

    def _reclaim(self, slot: Slot[C]) -> None:
        """Its owner is dead, whatever the reason: the connection is wiped and used again. Never switches."""
        now = self._clock()
        holder = Holder.of(slot, now)
        self._counters.connections_reclaimed += 1
        self._take_back(slot, now, reset=True)
        self._state.tell(
            "pool_reclaimed", f"taken back, its greenlet is gone: {holder}", label=holder.label, age=holder.age
        )

    def _orphaned(self, conn: C, ticket: int) -> None:
        slot = self._ledger.by_conn.get(conn)
        if slot is not None and slot.ticket == ticket:
            self._reclaim(slot)

    def _raw_owner_gone(self, slot: Slot[C], ticket: int, _: object) -> None:
        if slot.ticket == ticket:
            self.orphan(slot.conn, ticket)

    def _reclaim_dead(self) -> None:
        """A greenlet that is not gevent's does not tell when it has finished: look."""
        for slot in list(self._raw):
            owner = slot.owner() if slot.owner is not None else None
            if owner is None or owner.dead:
                self._reclaim(slot)


_pools: weakref.WeakSet[Pool[Any]] = weakref.WeakSet()


def _forget_all() -> None:
    for pool in list(_pools):
        pool.forget()


os.register_at_fork(after_in_child=_forget_all)

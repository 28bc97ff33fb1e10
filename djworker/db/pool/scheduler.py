"""Who is served with what: the queue, the growth of the pool, and what to say when the server is gone."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final, Generic

from gevent import get_hub

from djworker.db.pool.circuit import HOPE
from djworker.db.pool.driver import C
from djworker.db.pool.errors import PoolBug
from djworker.db.pool.maintenance import Stock
from djworker.db.pool.queue import Waiter, WaitQueue
from djworker.db.pool.slots import Slot, SlotState
from djworker.db.pool.stats import gauges, holders, situation
from djworker.db.pool.timer import Alarm

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.hub import Hub

    from djworker.db.pool.bound import Bound
    from djworker.db.pool.limits import Limits
    from djworker.db.pool.terms import Terms

_IDLE = SlotState.IDLE
# These may come back.
_IN_USE = (SlotState.OFFERED, SlotState.LEASED, SlotState.CHECKING, SlotState.RESETTING)

# Seconds. While no attempt to connect succeeds but connections keep coming back healthy, the server is full, not gone.
_SIGN_OF_LIFE = 1.0
# Seconds. Nobody waits for a refill up to min_size: during an outage it need not knock as often as a waiter does.
_REFILL_RETRY = 15.0
#: Seconds. A worker that drains keeps a connection for the next statement of the same request, and no longer.
RETIRING_IDLE: Final = 0.1
# Attempts under way at once while the server does not answer: the older one may be slow, the younger one would find a
# server that came back while the older one is still stuck in the retransmissions of its SYN.
_PROBES = 2


class Dispatch(Generic[C]):
    """[worker] Matches waiters with connections. Only `wait` switches greenlets."""

    def __init__(
        self,
        terms: Terms[C],
        limits: Limits,
        sweep: Callable[[], None],
        on_owner_death: Callable[[Slot[C]], None],
    ) -> None:
        self._terms = terms
        self._clock = terms.clock
        self._tally = terms.tally
        self.stock: Stock[C] = Stock(terms, limits, self, on_owner_death)
        self.ledger = self.stock.ledger
        self.queue: WaitQueue[C] = WaitQueue()
        self.hub: Hub | None = None  # bound at the first use: a pool may be made long before its loop runs
        self.closed = False
        self._idle = self.ledger.lists[_IDLE]
        self._check_after = limits.check_after
        self._idle_life = limits.idle_life  # 0 while a pool that shares our bound lacks a connection
        self.bound: Bound | None = None  # with other pools
        self.retiring = False
        self._waits = Alarm(sweep, terms.clock, keeps_alive=True)
        self._upkeep = Alarm(sweep, terms.clock, keeps_alive=False)

    # -- waiting --------------------------------------------------------------------------------------------------------------

    def bind(self) -> None:
        """The pool belongs to the event loop of its first use."""
        hub = get_hub()
        if hub is not self.hub:
            for alarm in (self._waits, self._upkeep):
                alarm.cancel()
            self.hub = hub

    def wait(self, timeout: float | None, connect: Callable[[], C] | None, now: float) -> Slot[C]:
        """Queue up, and sleep until served. The slot is OFFERED: the caller takes it without switching."""
        self._admit(now)
        if self.hub is None:
            msg = "bug: the pool is not bound to an event loop"
            raise PoolBug(msg)
        waiter = Waiter(self.hub, now, self.stock.limits.timeout if timeout is None else timeout, connect)
        self.queue.add(waiter)
        try:
            self._wait(waiter, now)
        except BaseException:  # GreenletExit and gevent.Timeout are no Exceptions
            self._gave_up(waiter)
            raise
        finally:
            self._tally.requests_queued += 1
            self._tally.requests_wait_ms += (self._clock() - now) * 1000
        if waiter.slot is None:
            raise waiter.error or PoolBug("bug: a waiter was woken up with nothing")
        return waiter.slot

    def _wait(self, waiter: Waiter[C], now: float) -> None:
        self.serve(now)
        if not waiter.settled and waiter.timeout <= 0:
            self.queue.leave(waiter)
            waiter.fail(self._timed_out(waiter))
        elif not waiter.settled:
            self._waits.no_later_than(waiter.hub, waiter.deadline)
        waiter.wait()

    def _gave_up(self, waiter: Waiter[C]) -> None:
        """Killed while it waited. What it was offered goes to the next; what is being made for it is made for the others."""
        self._tally.requests_abandoned += 1
        if waiter.slot is not None:
            self.usable(waiter.slot, self._clock())
        elif self.queue.leave(waiter):
            self._rest()

    def _admit(self, now: float) -> None:
        stock, limits = self.stock, self.stock.limits
        if self.closed:
            self._tally.requests_errors += 1
            raise self._closed()
        if self._is_out(now) and not self._idle and not stock.circuit.due(now):
            raise self._unavailable(now)
        if limits.max_waiting and self._lacking() >= limits.max_waiting:  # a pool that still grows has no backlog
            self._tally.requests_errors += 1
            self._tally.requests_refused += 1
            msg = f"{limits.max_waiting} are waiting already; {self.situation(now)}"
            raise self._terms.refusals.too_many_waiting(msg)

    def _rest(self) -> None:
        if not self.queue.waiting:
            self._waits.cancel()  # or it would keep an ending process alive for the rest of the time-out

    # -- what the stock tells us ----------------------------------------------------------------------------------------------

    def usable(self, slot: Slot[C], now: float) -> None:
        """A connection is ready: for the oldest waiter, or for the shelf."""
        if now >= slot.expires:
            self.stock.expire(slot, now)
        elif self.queue.waiting:
            self._offer(slot, now)
        else:
            slot.idle_since = now
            fresh_until, due = now + self._check_after, now + self._idle_life
            # Once per release, and min() is five times slower.
            slot.fresh_until = fresh_until if fresh_until < slot.expires else slot.expires  # noqa: FURB136
            self.ledger.move(slot, _IDLE)
            if due < self._upkeep.at or slot.expires < self._upkeep.at:
                self.remind(min(due, slot.expires))

    def connect_failed(self, now: float) -> None:
        """In an outage, those who wait are told at once, not each at the end of its own time."""
        if self._is_out(now):
            self._fail_all(now)

    def changed(self, now: float) -> None:
        """Something under way has ended."""
        self.serve(now)

        if self.bound is not None:
            self.bound.changed(self, now)

    def remind(self, when: float) -> None:
        """Sweep at that time at the latest."""
        if when < self._upkeep.at and self.hub is not None:
            self._upkeep.no_later_than(self.hub, when)

    # -- serving --------------------------------------------------------------------------------------------------------------

    def serve(self, now: float) -> None:
        """Level-triggered: give the waiters what there is, and see to it that what they lack is under way."""
        while self._idle and self._lacking() > 0:
            slot = next(reversed(self._idle))
            if now >= slot.expires:
                self.stock.expire(slot, now)
            elif now < slot.fresh_until:
                self._offer(slot, now)
            else:
                self.stock.check(slot, now)
        if not self.closed:
            self._grow(now)
            if self.bound is not None and self.lacking > 0 and not self.bound.has_room:
                self.bound.make_room(self, now)
        if self.queue.waiting and self._is_out(now) and not self.ledger.on_its_way:
            self._fail_all(now)

    def _offer(self, slot: Slot[C], now: float) -> None:
        if self.bound is not None and self.bound.owes(self):
            self.stock.close(slot, now)
            return
        waiter = self.queue.pop()
        self.ledger.move(slot, SlotState.OFFERED)
        waiter.offer(slot)
        self._rest()

    def _lacking(self) -> int:
        return len(self.queue.waiting) - self.ledger.on_its_way

    def _grow(self, now: float) -> None:
        ledger, circuit = self.ledger, self.stock.circuit
        if circuit.failing:
            self._probe(now)
            return
        if self.bound is not None:
            self.bound.distribute(now)
        while self._has_room() and self._wants_more():
            if ledger.count(SlotState.CONNECTING) >= circuit.window:
                return
            self.stock.connect(self._factory(), now)

    def _has_room(self) -> bool:
        return self.ledger.size < self.stock.limits.max_size and (self.bound is None or self.bound.has_room)

    def _wants_more(self) -> bool:
        return self._lacking() > 0 or self.ledger.live < self.stock.limits.min_size or self.stock.wants_fresh

    def _probe(self, now: float) -> None:
        """One attempt per back-off step, on demand."""
        circuit, ledger, limits = self.stock.circuit, self.ledger, self.stock.limits
        lacking = len(self.queue.waiting) - ledger.count(SlotState.CHECKING, SlotState.RESETTING)
        if lacking > 0:
            due = circuit.retry_at
        elif ledger.live < limits.min_size:
            due = circuit.failed_at + _REFILL_RETRY
        else:
            return
        if now < due:
            self._remind_probe(due, waited_for=lacking > 0)
            return
        if ledger.count(SlotState.CONNECTING) >= _PROBES:
            if not circuit.is_open:  # many were started before the first failure: let them end
                return
            if circuit.hopes(now):
                self._remind_probe(circuit.since + HOPE, waited_for=lacking > 0)
                return
            self.stock.give_up_newest_connect()
        if self._has_room():
            self.stock.connect(self._factory(), now)
            self._remind_probe(circuit.retry_at, waited_for=lacking > 0)

    def _remind_probe(self, when: float, *, waited_for: bool) -> None:
        if self.hub is not None and waited_for:
            self._waits.no_later_than(self.hub, when)
        else:
            self.remind(when)

    def _factory(self) -> Callable[[], C]:
        """The caller's way to connect is used at most once: a second, simultaneous call might share its state."""
        if self.queue.waiting:
            oldest = self.queue.oldest()
            connect, oldest.connect = oldest.connect, None
            if connect is not None:
                return connect
        return self._terms.driver.connect

    # -- sharing a bound, and retiring -------------------------------------------------------------------------------------------

    @property
    def lacking(self) -> int:
        """Waiters for whom no connection is on its way."""
        return max(self._lacking(), 0)

    @property
    def next_lacking(self) -> float:
        """When the oldest waiter came for whom no connection is on its way."""
        if self.lacking == 0:
            return math.inf
        return next(islice(self.queue.waiting, self.ledger.on_its_way, None)).since

    def grow_for_waiter(self, now: float) -> bool:
        """Start one connect, for which the bound has room. False if it may not be now."""
        circuit, ledger = self.stock.circuit, self.ledger
        if self.closed or circuit.failing or ledger.size >= self.stock.limits.max_size:
            return False
        if ledger.count(SlotState.CONNECTING) >= circuit.window:
            return False
        self.stock.connect(self._factory(), now)
        return True

    @property
    def oldest(self) -> float:
        """When the oldest waiter came."""
        return self.queue.oldest().since if self.queue.waiting else math.inf

    def lacking_since(self, when: float) -> int:
        """Waiters that lack a connection and came before then."""
        return min(sum(waiter.since < when for waiter in self.queue.waiting), self.lacking)

    @property
    def has_idle(self) -> bool:
        """Whether there is one to give up."""
        return bool(self._idle)

    @property
    def idle_longest(self) -> float:
        """Since when the coldest connection is idle."""
        return next(iter(self._idle)).idle_since

    @property
    def leaving(self) -> int:
        """Connections whose places are free soon."""
        return self.ledger.count(SlotState.CLOSING)

    def give_up_idle(self, now: float) -> None:
        """Close the coldest connection."""
        self.stock.close(next(iter(self._idle)), now)

    def keep_idle(self, wanted: bool) -> None:  # noqa: FBT001 -- its only argument
        """Whether a connection that comes back may stay; otherwise it is closed a moment later."""
        usual = RETIRING_IDLE if self.retiring else self.stock.limits.idle_life
        life = usual if wanted else 0.0
        if life < self._idle_life and self.hub is not None:
            self.remind(self._clock())
        self._idle_life = life

    def retire(self, now: float) -> None:
        """Give back what is idle now, and from now on whatever is idle for more than a moment."""
        self.retiring = True
        self.stock.limits = replace(self.stock.limits, min_size=0)
        self.keep_idle(self._idle_life > 0)
        for slot in list(self._idle):
            self.stock.close(slot, now)

    # -- refusing -------------------------------------------------------------------------------------------------------------

    def _is_out(self, now: float) -> bool:
        """Whether to wait is in vain: no attempt to connect succeeds, and nothing healthy has come back lately either."""
        if not self.stock.circuit.is_open or self.stock.circuit.hopes(now):
            return False
        return not (self.ledger.count(*_IN_USE) and now - self.stock.sign_at < _SIGN_OF_LIFE)

    def _fail_all(self, now: float) -> None:
        while self.queue.waiting:
            self.queue.pop().fail(self._unavailable(now))
        self._rest()

    def close(self) -> None:
        """Refuse whoever waits."""
        self.closed = True
        while self.queue.waiting:
            self._tally.requests_errors += 1
            self.queue.pop().fail(self._closed())
        self._rest()

    def situation(self, now: float) -> str:
        """The numbers and the holders, for a message."""
        how = gauges(self.ledger, len(self.queue), self.stock.limits, self.stock.circuit)
        text = situation(self._terms.name, how, holders(self.ledger, now))
        if self.bound is not None:
            text += f"; {self.bound.limit} connections are shared with {len(self.bound) - 1} other pools"
        return text

    def _closed(self) -> Exception:
        return self._terms.refusals.closed(f"pool {self._terms.name!r} is closed")

    def _timed_out(self, waiter: Waiter[C]) -> Exception:
        self._tally.requests_errors += 1
        self._tally.requests_timeouts += 1
        error = self._terms.refusals.timeout(
            f"no connection within {waiter.timeout:g} s; {self.situation(self._clock())}"
        )
        error.__cause__ = self.stock.circuit.cause
        return error

    def _unavailable(self, now: float) -> Exception:
        self._tally.requests_errors += 1
        self._tally.requests_unavailable += 1
        circuit = self.stock.circuit
        error = self._terms.refusals.unavailable(
            f"pool {self._terms.name!r} cannot connect: {circuit.cause} ({circuit.failures} failures in a row since"
            f" {now - circuit.since:.1f} s, next attempt in {max(circuit.retry_at - now, 0):.2f} s)"
        )
        error.__cause__ = circuit.cause
        return error

    # -- upkeep ---------------------------------------------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Do all that is due, then set the alarms for what is next."""
        self._waits.cancel()
        self._upkeep.cancel()
        self.stock.crew.kill_overdue(now)
        self._reap(now)
        self.serve(now)
        for waiter in self.queue.pop_overdue(now):
            waiter.fail(self._timed_out(waiter))
        if self.bound is not None:
            self.bound.review()
        self._set_alarms()

    def _reap(self, now: float) -> None:
        limits, ledger = self.stock.limits, self.ledger
        for slot in [slot for slot in self._idle if slot.expires <= now]:
            self.stock.expire(slot, now)
        least = limits.min_size if self._idle_life else 0
        while self._idle and ledger.live > least:
            oldest = next(iter(self._idle))
            if now < oldest.idle_since + self._idle_life:
                return
            self._tally.connections_reaped += 1
            self.stock.close(oldest, now)

    def _set_alarms(self) -> None:
        deadline = self.queue.next_deadline()
        if deadline is not None and self.hub is not None:
            self._waits.no_later_than(self.hub, deadline)
        job = self.stock.crew.next_deadline()
        if job is not None:
            self.remind(job)
        if self._idle:
            self.remind(min(slot.expires for slot in self._idle))
        if self._idle and self.ledger.live > self.stock.limits.min_size:
            self.remind(next(iter(self._idle)).idle_since + self._idle_life)

    def forget(self) -> list[C]:
        """After a fork: none of this is ours. Returns the parent's connections."""
        for alarm in (self._waits, self._upkeep):
            with contextlib.suppress(Exception):  # the child's event loop may be in any state yet
                alarm.cancel()
        while self.queue.waiting:
            with contextlib.suppress(Exception):
                self.queue.pop().fail(
                    self._terms.refusals.closed(f"pool {self._terms.name!r} was left behind by a fork")
                )
        self.hub = None
        return self.stock.abandon()

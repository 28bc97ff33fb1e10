"""Matches waiters with connections: the queue, the growth of the pool, and what to say when the server is gone."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final, Generic

from gevent import get_hub

from djworker.bug import Bug
from djworker.db.pool import refusing
from djworker.db.pool.circuit import HOPE, LAST_RETRY
from djworker.db.pool.driver import C
from djworker.db.pool.maintenance import Maintenance
from djworker.db.pool.queue import Waiter
from djworker.db.pool.slots import Slot, SlotState

if TYPE_CHECKING:
    from collections.abc import Callable

    from djworker.db.pool.bound import Bound
    from djworker.db.pool.state import State

_IDLE: Final = SlotState.IDLE
#: These may come back.
_IN_USE: Final = (SlotState.OFFERED, SlotState.LEASED, SlotState.CHECKING, SlotState.RESETTING)

#: Seconds. While no attempt to connect succeeds but connections keep coming back healthy, the server is full, not gone.
_SIGN_OF_LIFE: Final = 1.0
#: Seconds. No request waits for a refill up to min_size: during an outage it need not knock as often as a waiter does.
_REFILL_RETRY: Final = 15.0
#: Seconds. A worker that drains keeps a connection for the next statement of the same request, and no longer.
RETIRING_IDLE: Final = 0.1
#: Attempts under way at once while the server does not answer: the older one may be slow, the younger one would find a
#: server that came back while the older one is still stuck in the retransmissions of its SYN.
_PROBES: Final = 2


class Scheduler(Generic[C]):
    """[worker] Matches waiters with connections. Only `wait` switches greenlets."""

    def __init__(self, state: State[C]) -> None:
        self.state = state
        self.maintenance: Maintenance[C] = Maintenance(state, self.ended)
        self.retiring = False
        self._clock = state.clock
        self._ledger = state.ledger
        self._queue = state.queue
        self._idle = state.ledger.lists[_IDLE]
        self._check_after = state.limits.check_after
        self._idle_life = state.limits.idle_life  # 0 while a pool that shares our bound lacks a connection

    # -- waiting --------------------------------------------------------------------------------------------------------------

    def bind(self) -> None:
        """The pool belongs to the event loop of its first use."""
        hub = get_hub()
        if hub is not self.state.hub:
            for timer in (self.state.waits, self.state.upkeep):
                timer.cancel()
            self.state.hub = hub

    def wait(
        self,
        timeout: float | None,
        connect: Callable[[], C] | None,
        now: float,
        on_wait: Callable[[float], None] | None = None,
    ) -> Slot[C]:
        """Queue up, and sleep until served. The slot is OFFERED: the caller takes it without switching.

        Args:
            timeout: seconds to wait, 0 for not at all, None for the pool's.
            connect: used instead of the driver's if a connection must be made for this waiter.
            now: by the pool's clock.
            on_wait: told of the seconds that the pool took. What came after its offer is the wait for a turn of the CPU.

        Raises:
            The pool's refusals: timeout, too_many_waiting, unavailable, closed.
        """
        self._admit(now)
        if self.state.hub is None:
            msg = "bug: the pool is not bound to an event loop"
            raise Bug(msg)
        waiter = Waiter(self.state.hub, now, self.state.limits.timeout if timeout is None else timeout, connect)
        self._queue.add(waiter)
        try:
            self._wait(waiter, now)
        except BaseException:  # GreenletExit and gevent.Timeout are no Exceptions
            self._gave_up(waiter)
            raise
        finally:
            ended = self._clock()
            self.state.counters.requests_queued += 1
            self.state.counters.requests_wait_ms += (ended - now) * 1000
            if on_wait is not None:
                on_wait(min(ended, waiter.offered_at) - now)
        if waiter.slot is None:
            raise waiter.error or Bug("bug: a waiter was woken up with nothing")
        return waiter.slot

    def _wait(self, waiter: Waiter[C], now: float) -> None:
        self.serve(now)
        if not waiter.completed and waiter.timeout <= 0:
            self._queue.leave(waiter)
            waiter.fail(refusing.timed_out(self.state, waiter))
        elif not waiter.completed:
            self.state.waits.no_later_than(waiter.hub, waiter.deadline)
            if self.is_paused(now):
                self.state.waits.no_later_than(waiter.hub, self.state.paused_until)
        waiter.wait()

    def _gave_up(self, waiter: Waiter[C]) -> None:
        """Killed while it waited. What it was offered goes to the next; what is being made for it is made for the others."""
        self.state.counters.requests_abandoned += 1
        if waiter.slot is not None:
            self.usable(waiter.slot, self._clock())
        elif self._queue.leave(waiter):
            self._rest()

    def _admit(self, now: float) -> None:
        limits = self.state.limits
        if self.state.closed:
            raise refusing.closed(self.state)
        circuit = self.state.circuit
        if circuit.failures and not self._idle and self._is_out(now) and not circuit.due(now):
            raise refusing.unavailable(self.state, now)
        if limits.max_waiting and self._lacking() >= limits.max_waiting:  # a pool that still grows has no backlog
            raise refusing.too_many_waiting(self.state, now)

    # -- a pause ----------------------------------------------------------------------------------------------------------------

    def is_paused(self, now: float) -> bool:
        """Whether nothing is lent now, and every request waits."""
        return now < self.state.paused_until

    def pause(self, until: float, now: float) -> None:
        """Lend nothing until then. A second pause counts from now on; its waiters still wait since the first."""
        self.state.paused_since = min(self.state.paused_since, now)
        self.state.paused_until = until
        self.state.remind(until)

    def end_pause(self, now: float) -> None:
        """Go on. The pause was not the waiters' doing, so its time does not count against theirs."""
        since = self.state.paused_since
        self.state.paused_since, self.state.paused_until = math.inf, -math.inf
        for waiter in self._queue.waiting:
            waiter.deadline += max(0.0, now - max(waiter.since, since))
        if self.state.hub is not None:
            self.serve(now)
            self._set_timers()

    def _rest(self) -> None:
        if not self._queue.waiting:
            self.state.waits.cancel()  # or it would keep an ending process alive for the rest of the time-out

    # -- what maintenance tells us ----------------------------------------------------------------------------------------------

    def usable(self, slot: Slot[C], now: float) -> None:
        """A connection is ready: for the oldest waiter, or for the shelf."""
        if now >= slot.expires:
            self.maintenance.expire(slot, now)
        elif self._queue.waiting:
            self._offer(slot, now)
        else:
            slot.idle_since = now
            fresh_until, due = now + self._check_after, now + self._idle_life
            # Once per release, and min() is five times slower.
            slot.fresh_until = fresh_until if fresh_until < slot.expires else slot.expires  # noqa: FURB136 - min() is five times slower
            self._ledger.move(slot, _IDLE)
            if due < self.state.upkeep.at or slot.expires < self.state.upkeep.at:
                self.state.remind(min(due, slot.expires))

    def ended(self, slot: Slot[C] | None, now: float, *, failed: bool = False) -> None:
        """A task of `maintenance` has ended: with a connection that may be lent, or without one."""
        if slot is not None:
            self.usable(slot, now)
        elif failed and self._is_out(now):  # who waits is told at once, not each at the end of its own time
            self._fail_all(now)
        self.serve(now)
        if self.state.bound is not None:
            self.state.bound.changed(self, now)

    # -- serving --------------------------------------------------------------------------------------------------------------

    def serve(self, now: float) -> None:
        """Level-triggered: give the waiters what there is, and see to it that what they lack is under way."""
        while self._idle and self._lacking() > 0:
            slot = next(reversed(self._idle))
            if now >= slot.expires:
                self.maintenance.expire(slot, now)
            elif now < slot.fresh_until:
                self._offer(slot, now)
            else:
                self.maintenance.check(slot, now)
        if not self.state.closed and now >= self.state.paused_until:
            self._grow(now)
            if self.state.bound is not None and self.lacking > 0 and not self.state.bound.has_room:
                self.state.bound.make_room(self, now)
        if self.state.circuit.failures and self._queue.waiting and self._is_out(now) and not self._ledger.on_its_way:
            self._fail_all(now)

    def _offer(self, slot: Slot[C], now: float) -> None:
        if self.state.bound is not None and self.state.bound.owes(self):
            self.maintenance.close(slot, now)
            return
        waiter = self._queue.pop()
        self._ledger.move(slot, SlotState.OFFERED)
        waiter.offer(slot)
        waiter.offered_at = now
        self._rest()

    def _lacking(self) -> int:
        return len(self._queue.waiting) - self._ledger.on_its_way

    def _grow(self, now: float) -> None:
        if self.state.circuit.failures:
            self._probe(now)
            return
        bound = self.state.bound
        if bound is not None:
            bound.distribute(now)
        for _ in range(self._missing()):
            if bound is not None and not bound.has_room:
                return
            self.maintenance.connect(self._factory(), now)

    def _missing(self) -> int:
        """How many connections to begin: what waiters lack and `min_size` asks for, as far as bound and circuit allow it."""
        ledger, limits = self._ledger, self.state.limits
        wanted = max(self._lacking(), limits.min_size - ledger.live, int(self.state.wants_fresh))
        if wanted <= 0:
            return 0
        # The window of a circuit is no whole number, or without an end.
        window = self.state.circuit.window - len(ledger.lists[SlotState.CONNECTING])
        return math.ceil(min(wanted, limits.max_size - ledger.size, window))

    def _has_room(self) -> bool:
        return self._ledger.size < self.state.limits.max_size and (
            self.state.bound is None or self.state.bound.has_room
        )

    def _probe(self, now: float) -> None:
        """One attempt per back-off step, on demand."""
        circuit, ledger, limits = self.state.circuit, self._ledger, self.state.limits
        lacking = len(self._queue.waiting) - ledger.count(SlotState.CHECKING, SlotState.RESETTING)
        if lacking > 0:
            due = circuit.retry_at
        elif ledger.live < limits.min_size:
            due = circuit.failed_at + _REFILL_RETRY
        else:
            return
        if now < due:
            self._remind_of_probe(due, waited_for=lacking > 0)
            return
        if ledger.count(SlotState.CONNECTING) >= _PROBES:
            if not circuit.is_open:  # many were started before the first failure: let them end
                return
            if circuit.hopes(now):
                self._remind_of_probe(circuit.since + HOPE, waited_for=lacking > 0)
                return
            self.maintenance.give_up_newest_connect()
        if self._has_room():
            self.maintenance.connect(self._factory(), now)
            self._remind_of_probe(circuit.retry_at, waited_for=lacking > 0)

    def look_for_server(self, now: float) -> None:
        """Make the one attempt that waiters would, where there are none."""
        state = self.state
        if self.is_paused(now):
            return
        if not state.circuit.is_open or state.hub is None or state.closed or self.retiring or self._queue.waiting:
            return
        due = state.circuit.failed_at + LAST_RETRY
        if now >= due and not self._ledger.count(SlotState.CONNECTING) and self._has_room():
            self.maintenance.connect(self._factory(), now)

    def _remind_of_probe(self, when: float, *, waited_for: bool) -> None:
        if self.state.hub is not None and waited_for:
            self.state.waits.no_later_than(self.state.hub, when)
        else:
            self.state.remind(when)

    def _factory(self) -> Callable[[], C]:
        """The caller's way to connect is used at most once: a second, simultaneous call might share its state."""
        if self._queue.waiting:
            oldest = self._queue.oldest()
            connect, oldest.connect = oldest.connect, None
            if connect is not None:
                return connect
        return self.state.driver.connect

    # -- sharing a bound, and retiring -------------------------------------------------------------------------------------------

    def share(self, bound: Bound) -> None:
        """From now on the bound counts."""
        self.state.bound = bound

    @property
    def max_size(self) -> int:
        """The most connections that the pool alone would have."""
        return self.state.limits.max_size

    @property
    def size(self) -> int:
        """Connections that there are, or are being made."""
        return self._ledger.size

    @property
    def lacking(self) -> int:
        """Waiters without a connection on its way for them."""
        return max(self._lacking(), 0)

    @property
    def next_lacking(self) -> float:
        """When the oldest of these waiters came."""
        if self.lacking == 0:
            return math.inf
        return next(islice(self._queue.waiting, self._ledger.on_its_way, None)).since

    def grow_for_waiter(self, now: float) -> bool:
        """Start one connect, for which the bound has room. False if it may not be now."""
        circuit, ledger = self.state.circuit, self._ledger
        if self.is_paused(now) or self.state.closed or circuit.failing or ledger.size >= self.state.limits.max_size:
            return False
        if ledger.count(SlotState.CONNECTING) >= circuit.window:
            return False
        self.maintenance.connect(self._factory(), now)
        return True

    @property
    def oldest(self) -> float:
        """When the oldest waiter came."""
        return self._queue.oldest().since if self._queue.waiting else math.inf

    def lacking_since(self, when: float) -> int:
        """Waiters that lack a connection and came before then."""
        return min(sum(waiter.since < when for waiter in self._queue.waiting), self.lacking)

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
        return self._ledger.count(SlotState.CLOSING)

    def give_up_idle(self, now: float) -> None:
        """Close the coldest connection."""
        self.maintenance.close(next(iter(self._idle)), now)

    def keep_idle(self, wanted: bool) -> None:  # noqa: FBT001 - its only argument
        """Whether a connection that comes back may stay; otherwise it is closed a moment later."""
        usual = RETIRING_IDLE if self.retiring else self.state.limits.idle_life
        life = usual if wanted else 0.0
        if life < self._idle_life and self.state.hub is not None:
            self.state.remind(self._clock())
        self._idle_life = life

    def retire(self, now: float) -> None:
        """Give back what is idle now, and from now on whatever is idle for more than a moment."""
        self.retiring = True
        self.state.limits = replace(self.state.limits, min_size=0)
        self.keep_idle(self._idle_life > 0)
        for slot in list(self._idle):
            self.maintenance.close(slot, now)

    # -- refusing -------------------------------------------------------------------------------------------------------------

    def _is_out(self, now: float) -> bool:
        """Whether to wait is in vain: no attempt to connect succeeds, and nothing healthy has come back lately either."""
        if not self.state.circuit.is_open or self.state.circuit.hopes(now) or self.is_paused(now):
            return False
        return not (self._ledger.count(*_IN_USE) and now - self.state.sign_at < _SIGN_OF_LIFE)

    def _fail_all(self, now: float) -> None:
        while self._queue.waiting:
            self._queue.pop().fail(refusing.unavailable(self.state, now))
        self._rest()

    def close(self) -> None:
        """Refuse all waiters."""
        self.state.closed = True
        while self._queue.waiting:
            self._queue.pop().fail(refusing.closed(self.state))
        self._rest()

    # -- upkeep ---------------------------------------------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Do all that is due, then set the timers for what is next."""
        self.state.waits.cancel()
        self.state.upkeep.cancel()
        if self.state.paused_until <= now and self.state.paused_since <= now:
            self.end_pause(now)
        self.maintenance.tasks.kill_overdue(now)
        self._reap(now)
        self.serve(now)
        for waiter in [] if self.is_paused(now) else self._queue.pop_overdue(now):
            waiter.fail(refusing.timed_out(self.state, waiter))
        if self.state.bound is not None:
            self.state.bound.review()
        self._set_timers()

    def _reap(self, now: float) -> None:
        limits, ledger = self.state.limits, self._ledger
        for slot in [slot for slot in self._idle if slot.expires <= now]:
            self.maintenance.expire(slot, now)
        least = limits.min_size if self._idle_life else 0
        while self._idle and ledger.live > least:
            oldest = next(iter(self._idle))
            if now < oldest.idle_since + self._idle_life:
                return
            self.state.counters.connections_reaped += 1
            self.maintenance.close(oldest, now)

    def _set_timers(self) -> None:
        deadline = self._queue.next_deadline()
        paused_until = self.state.paused_until
        if paused_until > -math.inf:
            self.state.remind(paused_until)
            deadline = paused_until if deadline is not None else None
        if deadline is not None and self.state.hub is not None:
            self.state.waits.no_later_than(self.state.hub, deadline)
        job = self.maintenance.tasks.next_deadline()
        if job is not None:
            self.state.remind(job)
        if self._idle:
            self.state.remind(min(slot.expires for slot in self._idle))
        if self._idle and self._ledger.live > self.state.limits.min_size:
            self.state.remind(next(iter(self._idle)).idle_since + self._idle_life)

    def forget(self) -> list[C]:
        """After a fork: none of this is ours. Returns the parent's connections."""
        for timer in (self.state.waits, self.state.upkeep):
            with contextlib.suppress(Exception):  # the child's event loop may be in any state yet
                timer.cancel()
        while self._queue.waiting:
            with contextlib.suppress(Exception):
                self._queue.pop().fail(
                    self.state.refusals.closed(f"pool {self.state.name!r} was left behind by a fork")
                )
        self.state.hub = None
        return self.maintenance.abandon()

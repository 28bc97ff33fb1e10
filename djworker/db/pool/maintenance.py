"""The pool's back room: what is done to a connection while nobody holds it."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

from djworker.db.pool.circuit import Circuit
from djworker.db.pool.driver import C, Useless
from djworker.db.pool.slots import Ledger, Slot, SlotState
from djworker.db.pool.tasks import Crew

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from djworker.db.pool.limits import Limits
    from djworker.db.pool.terms import Terms

    class Front(Protocol[C]):
        """What the back room tells the front of the house. None of these may switch."""

        def usable(self, slot: Slot[C], now: float) -> None:
            """A connection is ready to be lent."""

        def connect_failed(self, now: float) -> None:
            """An attempt to connect failed."""

        def changed(self, now: float) -> None:
            """Something under way has ended: look again at who waits for what."""

        def remind(self, when: float) -> None:
            """Something must be looked after at that time."""


_LEAST_MISSED = (
    SlotState.IDLE,
    SlotState.CONNECTING,
    SlotState.CHECKING,
    SlotState.RESETTING,
    SlotState.LEASED,
    SlotState.OFFERED,
)


class Stock(Generic[C]):
    """[worker] Starts what may take time, each in a greenlet of the crew, and moves the slot when it has ended."""

    def __init__(
        self, terms: Terms[C], limits: Limits, front: Front[C], on_owner_death: Callable[[Slot[C]], None]
    ) -> None:
        self.limits = limits
        self.ledger: Ledger[C] = Ledger()
        self.circuit = Circuit(terms.rng)
        self.crew = Crew()
        self.wants_fresh = False  # a new connection, for what it will tell of the server
        self.sign_at = -math.inf  # when the server last gave a sign of life
        self._terms = terms
        self._driver = terms.driver
        self._tally = terms.tally
        self._clock = terms.clock
        self._front = front
        self._on_owner_death = on_owner_death

    def connect(self, factory: Callable[[], C], now: float) -> None:
        """Reserve a slot, then connect."""
        slot: Slot[C] = Slot(self._on_owner_death)
        self.ledger.add(slot)
        self.wants_fresh = False
        self.circuit.started(now)
        self._start(slot, factory, partial(self._connected, slot, now), now, self.limits.connect_timeout)

    def give_up_newest_connect(self) -> None:
        """Kill the attempt that started last; it fails when it is dead."""
        newest = next(reversed(self.ledger.lists[SlotState.CONNECTING]), None)
        if newest is not None and newest.task is not None:
            newest.task.kill(block=False)

    def check(self, slot: Slot[C], now: float) -> None:
        """Ask the server for a sign of life."""
        self.ledger.move(slot, SlotState.CHECKING)
        self._start(slot, partial(self._driver.check, slot.conn), partial(self._proved, slot), now)

    def reset(self, slot: Slot[C], now: float) -> None:
        """Make it as good as new."""
        self.ledger.move(slot, SlotState.RESETTING)
        self._start(slot, partial(self._driver.reset, slot.conn), partial(self._proved, slot), now)

    def cancel(self, slot: Slot[C], now: float) -> None:
        """Stop the abandoned query in the server, then close; the slot stays taken meanwhile."""
        self._tally.connections_cancelled += 1
        self.ledger.move(slot, SlotState.CANCELLING)
        self._start(slot, partial(self._driver.cancel, slot.conn), partial(self._cancelled, slot), now, self._parting)

    def close(self, slot: Slot[C], now: float) -> None:
        """Close; the slot is free when it is closed, for the server counts until then too."""
        self.ledger.move(slot, SlotState.CLOSING)
        self._start(slot, partial(self._driver.close, slot.conn), partial(self._closed, slot), now, self._parting)

    def suspect_idle(self) -> None:
        """One connection was found dead: the others may be. Each is asked before it is lent again; none is closed for it."""
        for slot in self.ledger.lists[SlotState.IDLE]:
            slot.fresh_until = -math.inf

    def expire(self, slot: Slot[C], now: float) -> None:
        """Its life is over."""
        self._tally.connections_expired += 1
        self.close(slot, now)

    @property
    def _parting(self) -> float:
        """Seconds for a cancel or a close: nobody waits for them, and a driver that limits them itself knows better how."""
        return 2 * self.limits.io_timeout

    @property
    def excess(self) -> int:
        """How many connections are above `max_size` and not doomed yet."""
        return max(sum(not slot.doomed for slot in self.ledger) - self.limits.max_size, 0)

    def shed(self, number: int, now: float) -> None:
        """Do without so many connections, those first that hurt least."""
        candidates = [slot for state in _LEAST_MISSED for slot in self.ledger.lists[state] if not slot.doomed]
        self.doom(candidates[:number], now)

    def doom(self, slots: list[Slot[C]], now: float) -> None:
        """Close these: the idle ones now, the others when they come back or are ready."""
        for slot in slots:
            slot.expires = -math.inf
            if slot.state is SlotState.IDLE:
                self.close(slot, now)

    def abandon(self) -> list[C]:
        """After a fork: let go of everything without a word to the server; return the parent's connections."""
        self.crew.abandon()
        conns = self.ledger.abandon()
        for conn in conns:
            self._driver.forget(conn)
        self.circuit = Circuit(self._terms.rng)
        return conns

    def _start(
        self,
        slot: Slot[C],
        work: Callable[[], object],
        done: Callable[[Any, BaseException | None], None],
        now: float,
        patience: float | None = None,
    ) -> None:
        patience = self.limits.io_timeout if patience is None else patience
        slot.task = self.crew.start(work, done, now=now, patience=patience)
        self._front.remind(now + patience)

    def _connected(self, slot: Slot[C], began: float, conn: C, error: BaseException | None) -> None:
        now = self._clock()
        self._tally.connections_num += 1
        self._tally.connections_ms += (now - began) * 1000
        if error is not None:
            self._not_connected(slot, now, error)
        else:
            self.ledger.settle(slot, conn)
            slot.expires = min(slot.expires, self.limits.expires(now, self._terms.rng.random()))
            self.sign_at = now
            if self.circuit.succeeded():
                self._terms.tell("pool_recovered", "the database server is back")
            self._front.usable(slot, now)
        self._front.changed(now)

    def _not_connected(self, slot: Slot[C], now: float, error: BaseException) -> None:
        self._tally.connections_errors += 1
        self.ledger.move(slot, SlotState.GONE)
        recovered = self.circuit.ended_by_hand() if self._driver.ended_by_hand(error) else None
        if recovered is not None:
            self.sign_at = now
            if recovered:
                self._terms.tell("pool_recovered", "the database server is back")
            return
        if self.circuit.failed(now, error):
            self._terms.tell("pool_outage", f"the database server cannot be reached: {error}", cause=repr(error))
        self._front.connect_failed(now)

    def _proved(self, slot: Slot[C], _: object, error: BaseException | None) -> None:
        now = self._clock()
        if isinstance(error, Useless):
            self.wants_fresh = True
            self.close(slot, now)
        elif error is not None:
            self._tally.connections_lost += 1
            self.suspect_idle()
            self.close(slot, now)
        else:
            self.sign_at = now
            self._front.usable(slot, now)
        self._front.changed(now)

    def _cancelled(self, slot: Slot[C], _: object, __: BaseException | None) -> None:
        # Whether or not the server could be told: nothing is left to do but to hang up.
        self.close(slot, self._clock())

    def _closed(self, slot: Slot[C], _: object, error: BaseException | None) -> None:
        if error is not None:
            self._tally.connections_forgotten += 1
            self._driver.forget(slot.conn)
        self.ledger.move(slot, SlotState.GONE)
        self._front.changed(self._clock())

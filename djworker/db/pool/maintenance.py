"""What is done to a connection while no request holds it."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, Protocol

from djworker.db.pool.circuit import Circuit
from djworker.db.pool.driver import C, Useless
from djworker.db.pool.slots import Slot, SlotState
from djworker.db.pool.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from djworker.db.pool.state import State
    from djworker.db.pool.tasks import Done, Work

    class Ended(Protocol[C]):
        """What is called when a task has ended. It must not switch."""

        def __call__(self, slot: Slot[C] | None, now: float, *, failed: bool = False) -> None:
            """With a connection that may be lent, if there is one; `failed`: an attempt to connect has failed."""


_LEAST_MISSED: Final = (
    SlotState.IDLE,
    SlotState.CONNECTING,
    SlotState.CHECKING,
    SlotState.RESETTING,
    SlotState.LEASED,
    SlotState.OFFERED,
)


class Maintenance(Generic[C]):
    """[worker] Starts what may take time, each in a task of its own, and moves the slot when it has ended."""

    def __init__(self, state: State[C], ended: Ended[C]) -> None:
        self.tasks = Tasks()
        self._state = state
        self._driver = state.driver
        self._ended = ended

    def connect(self, factory: Callable[[], C], now: float) -> None:
        """Reserve a slot, then connect."""
        slot: Slot[C] = Slot(self._state.reclaim)
        self._state.ledger.add(slot)
        self._state.wants_fresh = False
        self._state.circuit.started(now)
        self._start(slot, factory, partial(self._connected, slot, now), now, self._state.limits.connect_timeout)

    def give_up_newest_connect(self) -> None:
        """Kill the attempt that started last; it fails when it is dead."""
        newest = next(reversed(self._state.ledger.lists[SlotState.CONNECTING]), None)
        if newest is not None and newest.task is not None:
            newest.task.kill(block=False)

    def check(self, slot: Slot[C], now: float) -> None:
        """Ask the server for a sign of life."""
        self._state.ledger.move(slot, SlotState.CHECKING)
        self._start(slot, partial(self._driver.check, slot.conn), partial(self._proved, slot), now)

    def reset(self, slot: Slot[C], now: float) -> None:
        """Make it as good as new."""
        self._state.ledger.move(slot, SlotState.RESETTING)
        self._start(slot, partial(self._driver.reset, slot.conn), partial(self._proved, slot), now)

    def cancel(self, slot: Slot[C], now: float) -> None:
        """Stop the abandoned query in the server, then close; the slot stays taken meanwhile."""
        self._state.counters.connections_cancelled += 1
        self._state.ledger.move(slot, SlotState.CANCELLING)
        self._start(slot, partial(self._driver.cancel, slot.conn), partial(self._cancelled, slot), now, self._parting)

    def close(self, slot: Slot[C], now: float) -> None:
        """Close; the slot is free when it is closed, for the server counts until then too."""
        self._state.ledger.move(slot, SlotState.CLOSING)
        self._start(slot, partial(self._driver.close, slot.conn), partial(self._closed, slot), now, self._parting)

    def suspect_idle(self) -> None:
        """One connection was found dead: the others may be. Each is asked before it is lent again; none is closed for it."""
        for slot in self._state.ledger.lists[SlotState.IDLE]:
            slot.fresh_until = -math.inf

    def expire(self, slot: Slot[C], now: float) -> None:
        """Its life is over."""
        self._state.counters.connections_expired += 1
        self.close(slot, now)

    @property
    def _parting(self) -> float:
        """Seconds for a cancel or a close: no request waits for them, and a driver that limits them itself knows better how."""
        return 2 * self._state.limits.io_timeout

    @property
    def excess(self) -> int:
        """How many connections are above `max_size` and not doomed yet."""
        return max(sum(not slot.doomed for slot in self._state.ledger) - self._state.limits.max_size, 0)

    def shed(self, number: int, now: float) -> None:
        """Do without so many connections, those first that hurt least."""
        candidates = [slot for state in _LEAST_MISSED for slot in self._state.ledger.lists[state] if not slot.doomed]
        self.doom(candidates[:number], now)

    def doom(self, slots: list[Slot[C]], now: float) -> None:
        """Close these: the idle ones now, the others when they come back or are ready."""
        for slot in slots:
            slot.expires = -math.inf
            if slot.state is SlotState.IDLE:
                self.close(slot, now)

    def abandon(self) -> list[C]:
        """After a fork: let go of everything without a word to the server; return the parent's connections."""
        self.tasks.abandon()
        conns = self._state.ledger.abandon()
        for conn in conns:
            self._driver.forget(conn)
        self._state.circuit = Circuit(self._state.rng)
        return conns

    def _start(
        self,
        slot: Slot[C],
        work: Work,
        done: Done,
        now: float,
        timeout: float | None = None,
    ) -> None:
        timeout = self._state.limits.io_timeout if timeout is None else timeout
        slot.task = self.tasks.start(work, done, now=now, timeout=timeout)
        self._state.remind(now + timeout)

    def _connected(self, slot: Slot[C], began: float, conn: C, error: BaseException | None) -> None:
        state, now = self._state, self._state.clock()
        state.counters.connections_num += 1
        state.counters.connections_ms += (now - began) * 1000
        if error is not None:
            self._ended(None, now, failed=self._not_connected(slot, now, error))
            return
        state.ledger.connected(slot, conn)
        slot.expires = min(slot.expires, state.limits.expires(now, state.rng.random()))
        self._alive(now, recovered=state.circuit.succeeded())
        self._ended(slot, now)

    def _not_connected(self, slot: Slot[C], now: float, error: BaseException) -> bool:
        """Whether that says something against the server."""
        state = self._state
        state.counters.connections_errors += 1
        state.ledger.move(slot, SlotState.GONE)
        recovered = state.circuit.ended_by_hand() if self._driver.ended_by_hand(error) else None
        if recovered is not None:
            self._alive(now, recovered=recovered)
            return False
        if state.circuit.failed(now, error):
            state.counters.outages_num += 1
            state.tell("pool_outage", self._driver.explain(error), cause=repr(error))
        return True

    def _alive(self, now: float, *, recovered: bool) -> None:
        """The server has given a sign of life."""
        self._state.sign_at = now
        if recovered:
            self._state.tell("pool_recovered", "the database server is back")

    def _proved(self, slot: Slot[C], _: object, error: BaseException | None) -> None:
        now = self._state.clock()
        if error is None:
            self._state.sign_at = now
            self._ended(slot, now)
            return
        if isinstance(error, Useless):
            self._state.wants_fresh = True
        else:
            self._state.counters.connections_lost += 1
            self.suspect_idle()
        self.close(slot, now)
        self._ended(None, now)

    def _cancelled(self, slot: Slot[C], _: object, __: BaseException | None) -> None:
        # Whether or not the server could be told: nothing is left to do but to hang up.
        self.close(slot, self._state.clock())

    def _closed(self, slot: Slot[C], _: object, error: BaseException | None) -> None:
        if error is not None:
            self._state.counters.connections_forgotten += 1
            self._driver.forget(slot.conn)
        self._state.ledger.move(slot, SlotState.GONE)
        self._ended(None, self._state.clock())

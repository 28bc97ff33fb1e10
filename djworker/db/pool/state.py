"""All that one pool knows.

Its verbs stand in three modules that call in one direction. `pool` lends and takes back. `scheduler` decides who is served,
and when the pool grows. `maintenance` does to a connection what takes time, in `tasks`. Only one call goes the other way:
when a task has ended, `maintenance` tells it to `Scheduler.ended`.

The road of an acquire that has to connect:

    there   Pool.acquire → Scheduler.wait → serve → _grow → Maintenance.connect → Tasks.start; the caller sleeps
    back    Tasks → Maintenance._connected → Scheduler.ended → usable → _offer → the waiter, and so the caller
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic

from djworker.db.pool.circuit import Circuit
from djworker.db.pool.driver import C, PoolDriver
from djworker.db.pool.queue import WaitQueue
from djworker.db.pool.slots import Ledger
from djworker.db.pool.stats import Counters
from djworker.db.pool.timer import Timer

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from gevent.hub import Hub

    from djworker.db.pool.bound import Bound
    from djworker.db.pool.errors import Refusals
    from djworker.db.pool.limits import Limits
    from djworker.db.pool.slots import Slot

    Notify = Callable[..., None]


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class State(Generic[C]):
    """[worker] What the owner gave, what there is, and what was seen of the server."""

    # What the owner gave.
    name: str
    driver: PoolDriver[C]
    limits: Limits
    refusals: Refusals
    notify: Notify | None
    clock: Callable[[], float]
    rng: Random
    #: Does all that is due; the timers call it.
    sweep: Callable[[], None]
    #: Is told of a leased slot whose greenlet has ended.
    reclaim: Callable[[Slot[C]], None]

    # What there is.
    ledger: Ledger[C] = field(default_factory=Ledger)
    queue: WaitQueue[C] = field(default_factory=WaitQueue)
    counters: Counters = field(default_factory=Counters)
    #: Other pools that this one shares its bound with.
    bound: Bound | None = None
    #: Bound at the first use: a pool may be made long before its loop runs.
    hub: Hub | None = None
    closed: bool = False
    #: An operator has others wait meanwhile (a fail-over): nothing is connected or lent. From when, and until when.
    paused_since: float = math.inf
    paused_until: float = -math.inf
    #: For waiters: it keeps the event loop running.
    waits: Timer = field(init=False)
    #: For all else.
    upkeep: Timer = field(init=False)

    # What was seen of the server.
    circuit: Circuit = field(init=False)
    #: When the server last gave a sign of life.
    sign_at: float = -math.inf
    #: Whether a new connection is wanted for what it will tell of the server.
    wants_fresh: bool = False

    def __post_init__(self) -> None:
        self.circuit = Circuit(self.rng)
        self.waits = Timer(self.sweep, self.clock, keeps_alive=True)
        self.upkeep = Timer(self.sweep, self.clock, keeps_alive=False)

    def __repr__(self) -> str:
        return f"<pool {self.name!r}: {self.ledger!r}, {len(self.queue)} waiting>"

    def remind(self, when: float) -> None:
        """Sweep at that time at the latest."""
        if when < self.upkeep.at and self.hub is not None:
            self.upkeep.no_later_than(self.hub, when)

    def tell(self, event: str, message: str, **fields: object) -> None:
        """For the log: whatever it does, it must not hurt the pool."""
        if self.notify is not None:
            with contextlib.suppress(Exception):
                self.notify(event, f"pool {self.name!r}: {message}", pool=self.name, **fields)

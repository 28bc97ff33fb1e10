"""What is held for long: found by looking now and then, so that taking and giving back a connection cost nothing for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Held(NamedTuple):
    """One leased connection, as it is seen in one look."""

    ticket: int  # of the lease
    since: float
    statements: int  # that were begun on the connection, ever
    busy: bool  # one is running
    in_transaction: bool


class LongHold(NamedTuple):
    """One lease that is to be told of."""

    event: str  # long_hold or idle_in_transaction
    ticket: int
    age: float  # seconds: since the lease began
    idle: float  # seconds without a statement, at least; 0 for long_hold


@dataclass(slots=True)
class _Sight:
    statements: int
    idle_since: float
    told: frozenset[str] = frozenset()


class LongHolds:
    """[worker] Compares each look with the one before. Pure: time is an argument; 0 switches a threshold off.

    Idle time is counted from the first look that saw no statement run, so it is never said to be longer than it is.
    """

    __slots__ = ("_idle", "_long", "_seen")

    def __init__(self, long_hold: float, idle_in_transaction: float) -> None:
        self._long = long_hold or math.inf
        self._idle = idle_in_transaction or math.inf
        self._seen: dict[int, _Sight] = {}

    @property
    def wanted(self) -> bool:
        """Whether there is anything to look for."""
        return min(self._long, self._idle) < math.inf

    def look(self, now: float, held: Iterable[Held]) -> list[LongHold]:
        """What has come to be too long since the last look, each lease at most once per event.

        Args:
            now: by the pool's clock.
            held: every lease.
        """
        before, self._seen = self._seen, {}
        return [finding for item in held for finding in self._compare(now, item, before.get(item.ticket))]

    def _compare(self, now: float, item: Held, sight: _Sight | None) -> list[LongHold]:
        if sight is None:
            sight = _Sight(item.statements, now)
        elif item.busy or not item.in_transaction or item.statements != sight.statements:
            sight.statements, sight.idle_since = item.statements, now
        self._seen[item.ticket] = sight
        age, idle = now - item.since, now - sight.idle_since
        found = []
        if age >= self._long:
            found.append(LongHold("long_hold", item.ticket, age, 0.0))
        if idle >= self._idle:
            found.append(LongHold("idle_in_transaction", item.ticket, age, idle))
        new = [finding for finding in found if finding.event not in sight.told]
        sight.told |= {finding.event for finding in new}
        return new

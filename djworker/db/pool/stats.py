"""What a pool counts, under psycopg_pool's names where it has one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from djworker.db.pool.driver import C
from djworker.db.pool.slots import Ledger, Slot, SlotState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from greenlet import greenlet

    from djworker.db.pool.circuit import Circuit
    from djworker.db.pool.limits import Limits
    from djworker.db.pool.slots import Label


@dataclass(slots=True)
class Counters:
    """[worker] Counters since the pool was made; they only grow. Times are milliseconds, as in psycopg_pool."""

    requests_num: int = 0
    requests_queued: int = 0
    requests_wait_ms: float = 0.0
    requests_errors: int = 0  # all that follow, but the abandoned
    requests_timeouts: int = 0
    requests_refused: int = 0  # max_waiting
    requests_unavailable: int = 0  # failed at once, during an outage
    requests_abandoned: int = 0  # the greenlet was killed, or timed out by itself, while it waited
    usage_ms: float = 0.0
    connections_num: int = 0
    connections_ms: float = 0.0
    connections_errors: int = 0
    connections_lost: int = 0  # found dead, by a check or when it came back
    connections_expired: int = 0  # max_lifetime
    connections_reaped: int = 0  # max_idle
    connections_cancelled: int = 0  # abandoned queries
    connections_reclaimed: int = 0  # their owner died, or dropped them
    connections_forgotten: int = 0  # did not close in time
    outages_num: int = 0  # begun
    returns_num: int = 0
    returns_bad: int = 0

    def as_dict(self) -> dict[str, float]:
        """The counters by name."""
        return asdict(self)


class Holder(NamedTuple):
    """A lease: the words for its holder, its age in seconds, and the greenlet."""

    label: str
    age: float
    owner: greenlet | None

    @classmethod
    def of(cls, slot: Slot[C], now: float) -> Holder:
        """The holder of a leased slot."""
        return cls(text_of(slot.label), now - slot.leased_at, slot.owner() if slot.owner else None)

    def __str__(self) -> str:
        return f"{self.label} {self.age:.1f} s"


def holders(ledger: Ledger[C], now: float) -> list[Holder]:
    """All holders, the longest first."""
    leased = ledger.lists[SlotState.LEASED]
    return sorted((Holder.of(slot, now) for slot in leased), key=lambda holder: -holder.age)


def gauges(ledger: Ledger[C], waiting: int, limits: Limits, circuit: Circuit) -> dict[str, float]:
    """How things stand: lengths of lists.

    Args:
        ledger: the slots.
        waiting: how many waiters there are.
        limits: the numbers in force.
        circuit: how the attempts to connect have gone.
    """
    states = {
        f"pool_{state.name.lower()}": float(len(list_)) for state, list_ in zip(SlotState, ledger.lists, strict=False)
    }
    return {
        "pool_min": limits.min_size,
        "pool_max": limits.max_size,
        "pool_size": ledger.size,
        "pool_available": states.pop("pool_idle"),
        **states,
        "requests_waiting": waiting,
        "circuit_failures": circuit.failures,
        "circuit_open": circuit.is_open,
    }


def situation(name: str, gauges: Mapping[str, float], held: list[Holder]) -> str:
    """The exception is the dashboard (HikariCP): the numbers, and who holds what."""
    numbers = " ".join(
        f"{key.removeprefix('pool_')}={gauges[key]:g}"
        for key in ("pool_size", "pool_max", "pool_leased", "pool_available", "pool_connecting", "pool_cancelling")
    )
    text = f"pool {name!r}: {numbers} waiting={gauges['requests_waiting']:g}"
    if held:
        text += "; held by " + ", ".join(map(str, held[:_NAMED]))
    if len(held) > _NAMED:
        text += f" and {len(held) - _NAMED} more"
    return text


#: Enough to see a pattern; a log line stays a line.
_NAMED: Final = 10


def text_of(label: Label) -> str:
    """A label in words, whatever it does."""
    if callable(label):
        try:
            label = label()
        except Exception as error:  # noqa: BLE001 - the caller's code, run for a message: the message matters more
            label = f"(label failed: {error!r})"
    return label or "(unnamed)"

"""What a pool says when it refuses: its numbers, and who holds what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djworker.db.pool.driver import C
from djworker.db.pool.stats import gauges, holders, situation

if TYPE_CHECKING:
    from djworker.db.pool.queue import Waiter
    from djworker.db.pool.state import State


def closed(state: State[C]) -> Exception:
    """It is closed."""
    state.counters.requests_errors += 1
    return state.refusals.closed(f"pool {state.name!r} is closed")


def too_many_waiting(state: State[C], now: float) -> Exception:
    """`max_waiting` are waiting already."""
    state.counters.requests_errors += 1
    state.counters.requests_refused += 1
    return state.refusals.too_many_waiting(f"{state.limits.max_waiting} are waiting already; {_situation(state, now)}")


def timed_out(state: State[C], waiter: Waiter[C]) -> Exception:
    """A waiter's time is over."""
    state.counters.requests_errors += 1
    state.counters.requests_timeouts += 1
    error = state.refusals.timeout(f"no connection within {waiter.timeout:g} s; {_situation(state, state.clock())}")
    error.__cause__ = state.circuit.cause
    return error


def unavailable(state: State[C], now: float) -> Exception:
    """An outage."""
    state.counters.requests_errors += 1
    state.counters.requests_unavailable += 1
    circuit = state.circuit
    why = state.driver.explain(circuit.cause) if circuit.cause is not None else ""
    error = state.refusals.unavailable(
        f"pool {state.name!r} cannot connect: {why} ({circuit.failures} failures in a row since"
        f" {now - circuit.since:.1f} s, next attempt in {max(circuit.retry_at - now, 0):.2f} s)"
    )
    error.__cause__ = circuit.cause
    return error


def wrong_thread(state: State[C]) -> Exception:
    """The caller is in a native thread that is not the pool's."""
    state.counters.requests_errors += 1
    return state.refusals.wrong_thread(
        f"pool {state.name!r} belongs to the main thread, and its greenlets cannot be woken from a native one: ask"
        " connections[alias] in that thread itself, where it is a connection of the thread's own"
    )


def _situation(state: State[C], now: float) -> str:
    how = gauges(state.ledger, len(state.queue), state.limits, state.circuit)
    text = situation(state.name, how, holders(state.ledger, now))
    if state.bound is not None:
        text += f"; {state.bound.limit} connections are shared with {len(state.bound) - 1} other pools"
    return text

"""When to try again."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from djworker.db.pool.circuit import LAST_RETRY, OUTAGE_AFTER, Circuit, CircuitState

CAUSE = OSError("refused")


def fail(circuit: Circuit, now: float) -> bool:
    circuit.started(now)
    return circuit.failed(now, CAUSE)


def test_a_healthy_circuit_asks_for_no_patience() -> None:
    circuit = Circuit(random.Random(0))
    assert circuit.state is CircuitState.CLOSED
    assert circuit.due(0)
    circuit.started(0)
    assert circuit.due(0)


def test_three_failures_in_a_row_are_an_outage_and_one_success_ends_it() -> None:
    circuit = Circuit(random.Random(0))
    states = [circuit.state]
    assert [fail(circuit, 10), fail(circuit, 11), fail(circuit, 12), fail(circuit, 13)] == [False, False, True, False]
    assert (circuit.since, circuit.cause) == (10, CAUSE)
    states.append(circuit.state)
    circuit.started(14)
    states.append(circuit.state)
    assert circuit.succeeded()
    states.append(circuit.state)
    assert states == [CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.CLOSED]
    assert circuit.cause is None
    circuit.started(15)
    assert not circuit.succeeded()


def test_after_a_failure_it_begins_again_slowly() -> None:
    circuit = Circuit(random.Random(0))
    windows = [circuit.window]
    fail(circuit, 0)
    for _ in range(4):
        windows.append(circuit.window)
        circuit.started(1)
        circuit.succeeded()
    assert windows == [math.inf, 1, 2, 4, 8]


def test_a_probe_that_hangs_does_not_delay_its_successor() -> None:
    circuit = Circuit(random.Random(0))
    for _ in range(20):
        fail(circuit, 100)
    circuit.started(200)
    assert not circuit.due(200)
    assert circuit.due(200 + LAST_RETRY)


@given(st.integers(0, 2**32), st.integers(1, 200))
def test_the_step_grows_with_jitter_and_never_exceeds_its_limit(seed: int, failures: int) -> None:
    circuit = Circuit(random.Random(seed))
    for _ in range(failures):
        fail(circuit, 0)
    assert 0 < circuit.retry_at <= LAST_RETRY
    if failures > OUTAGE_AFTER + 5:
        assert circuit.retry_at >= LAST_RETRY / 2

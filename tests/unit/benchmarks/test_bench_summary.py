"""Medians, ratios and verdicts."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.summary import (
    Sample,
    Target,
    best_ratio,
    further_worker,
    judge,
    medians,
    order,
    over_rounds,
    percentile,
    problems,
    ratio,
    usable,
    worker_share,
)


def rates(**rows: float) -> Mapping[str, Sample]:
    return usable(Sample(row, rate=rate, requests=1) for row, rate in rows.items())


def test_a_ratio_is_taken_within_each_round() -> None:
    rounds = [rates(ours=10, theirs=5), rates(ours=1000, theirs=100)]
    assert over_rounds(ratio("rate", "ours", "theirs"), rounds) == (2, 10)


def test_a_round_that_lacks_a_row_has_no_say() -> None:
    assert over_rounds(
        ratio("rate", "ours", "theirs"), [rates(ours=10), rates(ours=10, theirs=0), rates(ours=3, theirs=2)]
    ) == (1.5,)


def test_the_best_of_the_others_is_the_best_that_is_there() -> None:
    value = best_ratio("rate", "ours", ["slow", "fast", "broken"])
    assert value(rates(ours=30, slow=10, fast=20)) == 1.5
    assert over_rounds(value, [rates(ours=30)]) == ()


def test_a_further_worker_costs_what_the_tree_grows_by() -> None:
    samples = usable(
        [
            Sample("one", pss=50, workers_pss=(30,)),
            Sample("four", pss=80, workers_pss=(9, 9, 9, 13)),
            Sample("alone", pss=40),
        ]
    )
    assert further_worker("one", "four", alone="alone")(samples) == 0.25
    assert worker_share("four", alone="alone")(samples) == 0.25


@pytest.mark.parametrize(
    "target, values, word",
    [
        ({"at_most": 1.2}, (1.0, 1.2, 9.0), "met"),
        ({"at_most": 1.2}, (1.0, 1.3, 1.4), "not met"),
        ({"at_least": 0.85}, (0.85,), "met"),
        ({"at_least": 0.85}, (0.84,), "not met"),
        ({"at_least": 0.85}, (), "no value"),
        ({}, (3.0,), ""),
    ],
)
def test_the_median_of_the_rounds_decides(target: dict[str, float], values: tuple[float, ...], word: str) -> None:
    rounds = [rates(ours=value, theirs=1) for value in values]
    (verdict,) = judge([Target("a ratio", ratio("rate", "ours", "theirs"), **target)], rounds)
    assert verdict.word == word


def test_errors_take_a_sample_out_and_are_told() -> None:
    rounds = [
        [Sample("good", rate=1), Sample("wrong", rate=9, requests=7, errors=2)],
        [Sample("dead", problem="ended with 1")],
    ]
    assert list(usable(rounds[0])) == ["good"]
    assert problems(rounds) == ["wrong: 2 errors in 7 requests", "dead: ended with 1"]
    assert medians("wrong", rounds) == (None, 0.0)


def test_the_median_sample_and_the_spread_of_its_rate() -> None:
    rounds = [
        [Sample("a", rate=rate, cpu=cpu, db_connections=seen)]
        for rate, cpu, seen in ((90, 3, 4), (100, 1, None), (120, 2, 9))
    ]
    middle, spread = medians("a", rounds)
    assert middle is not None
    assert (middle.rate, middle.cpu, middle.db_connections) == (100, 2, 9)
    assert spread == pytest.approx(0.3)


def test_each_round_begins_with_another_row() -> None:
    assert [order("abc", turn) for turn in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]
    assert order([], 1) == []


def test_percentiles_are_values_that_occurred() -> None:
    assert percentile([1, 2, 3, 4], 50) == 2
    assert percentile([1, 2, 3, 4], 99) == 4
    assert percentile([], 50) == 0.0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.1, 100))
def test_so_many_percent_do_not_exceed_the_percentile(values: list[float], percent: float) -> None:
    value = percentile(sorted(values), percent)
    assert value in values
    assert sum(one <= value for one in values) >= len(values) * percent / 100 - 1e-9

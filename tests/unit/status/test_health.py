"""Whether the service lives and is ready, by what the memory says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from djworker.status.health import ARBITER_SILENT, WORKER_SILENT, Facts, alive, ready

WELL = Facts(0.2, workers_silent=(0.1, 0.4))


def test_a_service_that_is_well_is_alive_and_ready() -> None:
    assert alive(WELL) == ready(WELL) == ""


def test_an_arbiter_that_does_not_turn_is_not_alive() -> None:
    silent = replace(WELL, arbiter_silent=ARBITER_SILENT + 3)
    assert alive(silent) == "the arbiter has not turned for 8 s"
    assert ready(silent) == ""  # its workers serve


@pytest.mark.parametrize(
    "facts, reason",
    [
        (replace(WELL, stopping=True), "stopping"),
        (replace(WELL, workers_silent=()), "no worker is ready"),
        (
            replace(WELL, workers_silent=(WORKER_SILENT + 2, 60.0)),
            "no worker accepts: their hubs have not turned for 5 s",
        ),
        (replace(WELL, outages=frozenset({"reports", "default"})), "no connection to default, reports"),
    ],
    ids=["stopping", "none", "blocked", "outage"],
)
def test_a_service_that_is_not_ready_says_why(facts: Facts, reason: str) -> None:
    assert ready(facts) == reason
    assert alive(facts) == ""


def test_one_worker_that_accepts_is_enough() -> None:
    assert ready(replace(WELL, workers_silent=(60.0, 0.1))) == ""


def test_an_outage_does_not_count_where_databases_are_left_out() -> None:
    out = replace(WELL, outages=frozenset({"default"}))
    assert ready(out, databases=False) == ""
    assert ready(replace(out, stopping=True), databases=False) == "stopping"

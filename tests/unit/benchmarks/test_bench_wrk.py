"""What wrk prints, as it prints it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.scenarios import SCENARIOS, Scenario
from tests.benchmarks.wrk import WrkError, command, duration, parse

GOOD = """\
Running 2s test @ http://127.0.0.1:44091/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.02ms  113.20us   4.70ms   93.10%
    Req/Sec    31.20k     1.02k   32.10k    80.00%
  Latency Distribution
     50%  812.00us
     75%    1.05ms
     90%    1.10ms
     99%    1.52s
  62101 requests in 2.01s, 9.12MB read
Requests/sec:  30895.52
Transfer/sec:      4.54MB
"""
BAD = """\
  Socket errors: connect 1, read 20, write 300, timeout 4000
  Non-2xx or 3xx responses: 50000
"""


def test_a_run_without_errors_is_read_in_seconds() -> None:
    load = parse(GOOD)
    assert (load.requests, load.seconds, load.rate) == (62101, 2.01, 30895.52)
    assert load.p50 == pytest.approx(812e-6)
    assert load.p99 == pytest.approx(1.52)
    assert load.errors == 0


def test_every_kind_of_error_counts() -> None:
    load = parse(GOOD + BAD)
    assert (load.bad_answers, load.socket_errors, load.timeouts) == (50000, 321, 4000)
    assert load.errors == 54321


def test_a_run_without_a_single_answer_is_read_too() -> None:
    nothing = GOOD.replace("62101 requests", "0 requests").replace("30895.52", "0.00").replace("812.00us", "0.00us")
    assert parse(nothing).requests == 0


@pytest.mark.parametrize("missing", ["requests in", "Requests/sec:", "50%", "99%"])
def test_output_that_lacks_a_line_is_refused(missing: str) -> None:
    with pytest.raises(WrkError):
        parse(GOOD.replace(missing, "something else"))


@pytest.mark.parametrize(
    "text, seconds", [("15.00us", 15e-6), ("3.50ms", 3.5e-3), ("2.00s", 2.0), ("1.50m", 90.0), ("1.00h", 3600.0)]
)
def test_times_have_units(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


def test_a_time_without_a_unit_is_refused() -> None:
    with pytest.raises(WrkError, match="not a time"):
        duration("12")


def test_wrk_is_asked_for_whole_seconds() -> None:
    assert "--duration=3s" in command("http://127.0.0.1:1/", 32, 2.1)
    assert "--duration=1s" in command("http://127.0.0.1:1/", 32, 0.0)


@pytest.mark.parametrize("scenario", [scenario for scenario in SCENARIOS if scenario.script], ids=lambda one: one.name)
def test_scripts_are_there(scenario: Scenario) -> None:
    words = command("http://127.0.0.1:1/", 32, 1.0, scenario.script)
    assert [Path(word.removeprefix("--script=")).is_file() for word in words if word.startswith("--script=")] == [True]

"""What ``top`` makes of a server's answers: tables of figures, and lines that fit any screen."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djworker.control.top.figures import View, headlines, span, tables
from djworker.control.top.layout import Choice, lines
from djworker.control.top.plain import render

RECENT = {"requests_per_second": 12.3, "errors_per_second": 0.5, "cpu": 0.42, "p50": 0.012, "p99": None}
GAUGES = {"running": 3, "queued": 1, "hub_silent": 0.2, "hub_lag": 0.001, "stalls": 0, "pss": 90 << 20, "rss": 0}


def worker(slot: int, **fields: Any) -> dict[str, Any]:
    """As ``status`` tells of one."""
    named = {"slot": slot, "generation": 3, "pid": 4000 - slot, "state": "ready", "replaced": False, "restarts": slot}
    return {**named, **GAUGES, "recent": RECENT, **fields}


def answers(*workers: dict[str, Any], requests: int = 0) -> View:
    """A view of a server with these workers."""
    status = {
        "server": {"name": "shop", "settings": "shop.settings", "pid": 7, "stopping": False, "started": 0.0},
        "rolling": False,
        "generation": 3,
        "workers_ready": len(workers),
        "workers_wanted": 2,
        "recent": RECENT,
        "restarts": {"crash": 2},
        "last_reload": {"generation": 4, "ok": False, "reason": "dies \x1b[31m"},
        "generations": [{"generation": 3, "state": "ready", "pid": 9}],
        "workers": list(workers),
    }
    one = {
        "slot": 0,
        "age": 1.5,
        "phase": "in SQL",
        "method": "GET",
        "path": "/a\x1b[2J",
        "view": "",
        "blocks_hub": False,
    }
    pool = {
        "alias": "default",
        "size": 2,
        "idle": 1,
        "leased": 1,
        "waiting": 3,
        "bound": 5,
        "outage": False,
        "paused": 0.0,
    }
    holder = {"age": 2.0, "who": "GET /slow", "view": ""}
    return View(
        {
            "status": status,
            "requests": {"requests": [{**one, "sql": "SELECT\n 1"}] * requests, "workers": [{**worker(0), "note": ""}]},
            "pool": {"pools": [{**pool, "holders": [holder]}, {**pool, "holders": []}]},
        },
        looks=1,
    )


def shown(view: View, choice: Choice, width: int = 80, height: int = 24) -> list[str]:
    """The lines of a screen."""
    found = lines(headlines(view), tables(view), choice, width, height)
    return ["".join(piece for piece, _ in line) for line in found]


@given(
    st.integers(1, 200),
    st.integers(1, 60),
    st.integers(0, 40),
    st.integers(0, 40),
    st.lists(st.sampled_from(["1", "2", "3", "\t", "<", ">", "up", "down", "page down", "home", "r", "z", " ", "x"])),
)
def test_any_number_of_rows_fits_any_screen(
    width: int, height: int, workers: int, requests: int, keys: list[str]
) -> None:
    view = answers(*map(worker, range(workers)), requests=requests)
    choice = Choice()
    for key in keys:
        choice.press(key, {name: len(table.columns) for name, table in tables(view).items()})
    found = shown(view, choice, width, height)
    assert len(found) == height
    assert all(len(line) <= width for line in found)
    assert not any(ord(character) < 32 for line in found for character in line), "nothing that a terminal obeys"


def test_rows_are_sorted_by_the_chosen_column() -> None:
    view = answers(worker(0, pid=30), worker(1, pid=10), worker(2, pid=20))
    choice = Choice(column={"workers": 2, "requests": 0, "pools": 0})
    pids = [line.split()[2] for line in shown(view, choice)[5:8]]
    assert pids == ["10", "20", "30"]
    choice.press("r", {"workers": 13})
    assert [line.split()[2] for line in shown(view, choice)[5:8]] == ["30", "20", "10"]


def test_a_worker_that_is_silent_is_shown_as_blocked() -> None:
    [_, row] = shown(answers(worker(0, hub_silent=2.5)), Choice())[4:6]
    assert "blocked" in row
    assert "2.5s" in row


def test_a_database_without_a_pool_is_named_in_the_place_of_rows() -> None:
    database = {"alias": "default", "engine": "of\x1b[2Jfiles", "pooled": False}
    view = View({**answers(worker(0)).answers, "pool": {"databases": [database]}})
    assert tables(view)["pools"].empty == r"no pools: these databases have none: 'default' (of\x1b[2Jfiles)"


def test_the_pools_of_all_workers_are_one_row() -> None:
    [row] = tables(answers(worker(0)))["pools"].rows
    assert [cell.text for cell in row] == ["default", "4", "2", "2", "6", "10", "ok", "2.0s", "GET /slow"]


def test_rows_that_do_not_fit_are_scrolled_to() -> None:
    view = answers(*map(worker, range(40)))
    choice = Choice(zoomed=True)
    assert shown(view, choice)[4].split()[0] == "0"
    for _ in range(9):
        choice.press("page down", {"workers": 13})
    assert shown(view, choice)[22].split()[0] == "39", "and no further"


def test_before_an_answer_there_is_only_a_line() -> None:
    assert shown(View(), Choice())[:2] == ["djworker top: asking the server ...", ""]
    assert render(View(trouble="no server")) == "djworker top: no server"


@pytest.mark.parametrize(
    "generation, rolling, stopping, word",
    [
        (0, False, False, "starting"),
        (3, False, False, "serving"),
        (3, True, False, "reloading"),
        (0, True, True, "stopping"),
    ],
)
def test_the_first_line_says_what_the_server_does(generation: int, rolling: bool, stopping: bool, word: str) -> None:  # noqa: FBT001 - as ``status`` has them
    view = answers(worker(0))
    status = view.answers["status"]
    told = {
        **status,
        "generation": generation,
        "rolling": rolling,
        "server": {**status["server"], "stopping": stopping},
    }
    assert f" {word} " in shown(View({**view.answers, "status": told}), Choice())[0]


def test_what_is_known_stays_while_the_server_is_silent() -> None:
    view = View(answers(worker(0)).answers, "it does not answer", 1)
    assert shown(view, Choice())[0] == "does not answer: it does not answer"
    assert "4000" in "".join(shown(view, Choice()))


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.0, "0ms"),
        (0.0004, "0.4ms"),
        (0.0123, "12ms"),
        (0.9996, "1.0s"),
        (59.94, "59.9s"),
        (3599.0, "60m"),
        (86_400.0, "24h"),
        (864_000.0, "10d"),
    ],
)
def test_a_time_has_five_characters_at_most(seconds: float, text: str) -> None:
    assert span(seconds) == text
    assert len(text) <= 5

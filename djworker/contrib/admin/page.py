"""What the page shows, made from the server's answers: figures, drawings, tables. Templates only lay it out."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from django.template.loader import render_to_string

from djworker.contrib.admin.plots import plots
from djworker.contrib.admin.source import ServerAnswers
from djworker.control.text import state_of
from djworker.control.top.figures import Column, Table, View, memory, rate, span, tables

__all__ = ["FRAGMENTS", "contents", "fragments"]

#: The parts of the page that are shown anew, each by itself, so that what has not changed stays selected and scrolled.
FRAGMENTS: Final = ("summary", "plots", "workers", "requests", "pools", "generations")
#: What ``top`` calls shortly, as there is more room here.
_TITLES: Final = {
    "SLOT": "Slot",
    "GEN": "Generation",
    "PID": "Process",
    "STATE": "State",
    "REQ/S": "Requests/s",
    "RUN": "Running",
    "P50": "p50",
    "P99": "p99",
    "CPU%": "CPU %",
    "PSS": "Memory",
    "LAG": "Lag",
    "STALL": "Stalls",
    "RST": "Replaced",
    "AGE": "Age",
    "PHASE": "Phase",
    "VIEW": "View",
    "REQUEST": "Request",
    "ALIAS": "Database",
    "SIZE": "Open",
    "IDLE": "Idle",
    "LEASED": "Lent",
    "WAIT": "Waiting",
    "BOUND": "Bound",
    "HELD": "Held for",
    "LONGEST BY": "By",
}


class Tile(NamedTuple):
    """A figure with its name; look as of a ``Cell``."""

    name: str
    value: str
    look: str = ""


def fragments(answers: ServerAnswers, path: str, recycle: str) -> dict[str, str]:
    """Return the parts of the page as HTML, by name.

    Args:
        answers: of the server.
        path: of the request that asks for them, which is not shown among those in flight.
        recycle: the URL that replaces all workers, below which is each worker's, in this site of the admin; empty for no links.
    """
    shown = contents(answers, path) | {"recycle": recycle}
    return {name: render_to_string(f"djworker_admin/{name}.html", shown) for name in FRAGMENTS}


def contents(answers: ServerAnswers, path: str) -> dict[str, Any]:
    """Return what the templates of the parts are filled with."""
    status = answers.status
    others = [one for one in answers.requests.get("requests", ()) if (one["pid"], one["path"]) != (os.getpid(), path)]
    view = View({"status": status, "requests": {**answers.requests, "requests": others}, "pool": answers.pool})
    server = status["server"]
    return {
        "server": server,
        "state": state_of(status),
        "status": status,
        "up": span(max(0.0, time.time() - server["started"])),
        "tiles": _tiles(status, answers.pool),
        "plots": plots(answers.history["samples"]),
        "restarts": sorted(status["restarts"].items()),
        "reloads": [_reload(one) for one in reversed(answers.history["reloads"])],
        "generations": _generations(status),
        **{name: _table(table) for name, table in tables(view).items()},
    }


def _table(table: Table) -> dict[str, Any]:
    titles = [_TITLES[column.title] for column in table.columns]
    rows = [
        [
            (title, cell, _classes(column, cell.look))
            for title, cell, column in zip(titles, row, table.columns, strict=True)
        ]
        for row in table.rows
    ]
    heads = [(title, column.right) for title, column in zip(titles, table.columns, strict=True)]
    return {"titles": heads, "rows": rows, "notes": table.notes, "empty": table.empty}


def _classes(column: Column, look: str) -> str:
    wide = "djw-fill" if column.fill else "djw-wide" if column.title == "VIEW" else ""
    return " ".join(filter(None, ("djw-right" if column.right else "", wide, f"djw-look-{look}" if look else "")))


def _tiles(status: Mapping[str, Any], pool: Mapping[str, Any]) -> list[Tile]:
    recent, workers, pools = status["recent"], status["workers"], pool.get("pools", ())
    errors, queued = recent["errors_per_second"], sum(worker["queued"] for worker in workers)
    running = sum(worker["running"] for worker in workers)
    ready, wanted = status["workers_ready"], status["workers_wanted"]
    waiting = sum(one["waiting"] for one in pools)
    return [
        Tile("workers ready", f"{ready} / {wanted}", "" if ready >= wanted else "bad"),
        Tile("requests/s", rate(recent["requests_per_second"])),
        Tile("5xx/s", rate(errors), "bad" if errors else ""),
        Tile("p50", _time(recent["p50"])),
        Tile("p99", _time(recent["p99"])),
        Tile("run / queue", f"{running} / {queued}", "warn" if queued else ""),
        Tile("CPU", f"{recent['cpu'] * 100:.0f} %"),
        Tile("memory", memory(sum(worker["pss"] or worker["rss"] for worker in workers))),
        Tile("wait for db", str(waiting), "warn" if waiting else ""),
    ]


def _time(seconds: float | None) -> str:
    return "–" if seconds is None else span(seconds)


def _generations(status: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    counts = [worker["generation"] for worker in status["workers"]]
    return [{**mold, "workers": counts.count(mold["generation"])} for mold in status["generations"]]


def _reload(one: Mapping[str, Any]) -> dict[str, Any]:
    return {**one, "at": datetime.fromtimestamp(one["at"], UTC)}

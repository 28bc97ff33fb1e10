"""What ``top`` shows, made from the answers of a server: a headline, and three tables whose rows can be sorted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from djworker.control.text import no_pools, printable, state_of
from djworker.ipc.contract import RequestPhase
from djworker.units import MEBIBYTE

__all__ = ["TABLES", "Cell", "Column", "Table", "View", "headlines", "memory", "rate", "span", "tables"]

#: Seconds without a turn of its loop, from which on a worker is shown as blocked: two beats, and a machine that is busy.
BLOCKED: Final = 1.5
#: Seconds of lag, and of age of a request, that are worth a look; and that are bad.
SLOW, BAD = 0.1, 1.0
_WAITS: Final = "wait conn"
_SHORT_PHASES: Final[Mapping[str, str]] = {
    RequestPhase.WAITING_FOR_CONNECTION: _WAITS,
    RequestPhase.READING_BODY: "read body",
    RequestPhase.READING_HEAD: "read head",
}


class Cell(NamedTuple):
    """What is shown, what rows are sorted by, and how it looks: ``""``, ``dim``, ``good``, ``warn`` or ``bad``."""

    text: str
    key: float | str
    look: str = ""


class Column(NamedTuple):
    """A column of a table. right: its cells stand right. fill: it takes what is left of the line."""

    title: str
    right: bool = True
    fill: bool = False
    #: Whether the first sort by it puts the largest on top.
    largest_first: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells. notes: lines below them."""

    name: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    empty: str
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class View:
    """What is known of a server now: its answers by verb, and why there are no newer ones."""

    answers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: Why the server does not answer now; empty where it does.
    trouble: str = ""
    #: How often it has answered ``status``.
    looks: int = 0


#: By name, which is also the key that chooses it.
TABLES: Final = ("workers", "requests", "pools")


def tables(view: View) -> dict[str, Table]:
    """Return the tables by name; none before the server has said anything."""
    if "status" not in view.answers:
        return {}
    status, requests, pool = (view.answers.get(verb, {}) for verb in ("status", "requests", "pool"))
    return {"workers": _workers(status, requests), "requests": _requests(requests), "pools": _pools(pool)}


# -- workers ----------------------------------------------------------------------------------------------------------

_WORKERS: Final = (
    Column("SLOT", largest_first=False),
    Column("GEN"),
    Column("PID", largest_first=False),
    Column("STATE", right=False, largest_first=False),
    Column("REQ/S"),
    Column("RUN"),
    Column("P50"),
    Column("P99"),
    Column("CPU%"),
    Column("PSS"),
    Column("LAG"),
    Column("STALL"),
    Column("RST"),
)


def _workers(status: Mapping[str, Any], requests: Mapping[str, Any]) -> Table:
    rows = [_worker(worker) for worker in status.get("workers", ())]
    notes = [
        printable(f"worker {one['slot']}, pid {one['pid']}: {one['note']}")
        for one in requests.get("workers", ())
        if one["note"]
    ]
    return Table("workers", _WORKERS, rows, "no workers", notes)


def _worker(worker: Mapping[str, Any]) -> list[Cell]:
    recent, silent = worker["recent"], worker["hub_silent"]
    blocked = silent > BLOCKED and worker["state"] in ("ready", "draining")
    lag = silent if blocked else worker["hub_lag"]
    state = "blocked" if blocked else "leaves" if worker["replaced"] else worker["state"]
    return [
        _number(worker["slot"]),
        _number(worker["generation"]),
        _number(worker["pid"]),
        Cell(state, state, "bad" if blocked else _STATES.get(state, "warn")),
        Cell(rate(recent["requests_per_second"]), recent["requests_per_second"]),
        _number(worker["running"]),
        _duration(recent["p50"]),
        _duration(recent["p99"]),
        Cell(f"{recent['cpu'] * 100:.0f}", recent["cpu"], "warn" if recent["cpu"] > 0.9 else ""),
        Cell(memory(worker["pss"] or worker["rss"]), worker["pss"] or worker["rss"]),
        _duration(lag, blank=False),
        Cell(str(worker["stalls"]), worker["stalls"], "warn" if worker["stalls"] else "dim"),
        Cell(str(worker["restarts"]), worker["restarts"], "" if worker["restarts"] else "dim"),
    ]


_STATES: Final = {"ready": "good", "killed": "bad"}

# -- requests ---------------------------------------------------------------------------------------------------------

_REQUESTS: Final = (
    Column("AGE"),
    Column("SLOT", largest_first=False),
    Column("PHASE", right=False, largest_first=False),
    Column("VIEW", right=False, largest_first=False),
    Column("REQUEST", right=False, fill=True, largest_first=False),
)


def _requests(answer: Mapping[str, Any]) -> Table:
    rows = [_request(request) for request in answer.get("requests", ())]
    left_out = sum(worker.get("left_out", 0) for worker in answer.get("workers", ()))
    notes = [f"{left_out} more are not shown"] if left_out else []
    return Table("requests", _REQUESTS, rows, "no request in flight", notes)


def _request(request: Mapping[str, Any]) -> list[Cell]:
    phase = "blocks hub" if request["blocks_hub"] else _SHORT_PHASES.get(request["phase"], request["phase"])
    look = "bad" if request["blocks_hub"] else "warn" if phase in (RequestPhase.QUEUED, _WAITS) else ""
    what = f"{request['method']} {request['path']}".strip() or "(not read yet)"
    if request["sql"]:
        what = f"{what}  {' '.join(request['sql'].split())}"
    return [
        _duration(request["age"], blank=False),
        _number(request["slot"]),
        Cell(phase, phase, look),
        Cell(printable(request["view"]), request["view"], "dim"),
        Cell(printable(what), what),
    ]


# -- pools ------------------------------------------------------------------------------------------------------------

_POOLS: Final = (
    Column("ALIAS", right=False, largest_first=False),
    Column("SIZE"),
    Column("IDLE"),
    Column("LEASED"),
    Column("WAIT"),
    Column("BOUND"),
    Column("STATE", right=False, largest_first=False),
    Column("HELD"),
    Column("LONGEST BY", right=False, fill=True, largest_first=False),
)


def _pools(answer: Mapping[str, Any]) -> Table:
    """All workers' pools of a database are one row."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for pool in answer.get("pools", ()):
        found.setdefault(pool["alias"], []).append(pool)
    rows = [_pool(alias, pools) for alias, pools in found.items()]
    return Table("pools", _POOLS, rows, no_pools(answer))


def _pool(alias: str, pools: Sequence[Mapping[str, Any]]) -> list[Cell]:
    total = {name: sum(pool[name] for pool in pools) for name in ("size", "idle", "leased", "waiting", "bound")}
    holders = [holder for pool in pools for holder in pool["holders"]]
    longest = max(holders, key=lambda holder: float(holder["age"]), default=None)
    state = (
        "outage"
        if any(pool["outage"] for pool in pools)
        else "paused"
        if any(pool["paused"] for pool in pools)
        else "ok"
    )
    return [
        Cell(printable(alias), alias),
        *(_number(total[name]) for name in ("size", "idle", "leased")),
        Cell(str(total["waiting"]), total["waiting"], "warn" if total["waiting"] else ""),
        _number(total["bound"]),
        Cell(state, state, "good" if state == "ok" else "bad"),
        _duration(longest["age"] if longest else None),
        Cell(printable(longest["who"]) if longest else "", longest["who"] if longest else ""),
    ]


# -- headlines --------------------------------------------------------------------------------------------------------


def headlines(view: View) -> list[list[tuple[str, str]]]:
    """Return the lines above the tables, as pieces with their look."""
    if "status" not in view.answers:
        return [[(f"djworker top: {view.trouble or 'asking the server ...'}", "warn")]]
    status = view.answers["status"]
    lines = [_who(status), _figures(status, view.answers.get("pool", {})), _generations(status)]
    if view.trouble:
        lines[0] = [(printable(f"does not answer: {view.trouble}"), "bad")]
    return lines


def _who(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    server, state = status["server"], state_of(status)
    ready, wanted = status["workers_ready"], status["workers_wanted"]
    up = span(max(0.0, time.time() - server["started"]))
    return [
        (printable(server["name"]), "strong"),
        ("  ", ""),
        (state, "good" if state == "serving" else "warn"),
        ("  generation ", "dim"),
        (str(status["generation"]), "strong"),
        ("  workers ", "dim"),
        (f"{ready}/{wanted}", "good" if ready >= wanted else "bad"),
        ("  up ", "dim"),
        (up, ""),
        ("  pid ", "dim"),
        (str(server["pid"]), ""),
        (printable(f"  {server['settings']}"), "dim"),
    ]


def _figures(status: Mapping[str, Any], pool: Mapping[str, Any]) -> list[tuple[str, str]]:
    recent, workers = status["recent"], status["workers"]
    errors, queued = recent["errors_per_second"], sum(worker["queued"] for worker in workers)
    held = sum(worker["pss"] or worker["rss"] for worker in workers)
    waiting = sum(one["waiting"] for one in pool.get("pools", ()))
    return [
        (rate(recent["requests_per_second"]), "strong"),
        (" req/s  ", "dim"),
        (rate(errors), "bad" if errors else ""),
        (" err/s  p50 ", "dim"),
        (_duration(recent["p50"]).text or "-", ""),
        ("  p99 ", "dim"),
        (_duration(recent["p99"]).text or "-", ""),
        ("  run ", "dim"),
        (str(sum(worker["running"] for worker in workers)), ""),
        ("  queue ", "dim"),
        (str(queued), "warn" if queued else ""),
        ("  cpu ", "dim"),
        (f"{recent['cpu'] * 100:.0f}%", ""),
        ("  mem ", "dim"),
        (memory(held), ""),
        ("  db wait ", "dim"),
        (str(waiting), "warn" if waiting else ""),
    ]


def _generations(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    counts = [worker["generation"] for worker in status["workers"]]
    molds = ", ".join(
        f"{mold['generation']} {mold['state']} ({counts.count(mold['generation'])} workers)"
        for mold in status["generations"]
    )
    pieces = [("generations ", "dim"), (molds or "none", "")]
    if restarts := ", ".join(f"{cause} {number}" for cause, number in sorted(status["restarts"].items())):
        pieces += [("  restarts ", "dim"), (printable(restarts), "")]
    last = status["last_reload"]
    if last and not last["ok"]:
        pieces += [("  reload ", "dim"), (printable(f"{last['generation']} failed: {last['reason']}"), "bad")]
    return pieces


# -- numbers ----------------------------------------------------------------------------------------------------------


def _number(value: int) -> Cell:
    return Cell(str(value), value)


def rate(value: float) -> str:
    """Return how often something happens in a second."""
    return f"{value:.0f}" if value >= 100 or not value else f"{value:.1f}"


def _duration(seconds: float | None, *, blank: bool = True) -> Cell:
    """Four or five characters. blank: nothing where there is nothing."""
    if seconds is None:
        return Cell("" if blank else "-", -1.0)
    look = "bad" if seconds >= BAD else "warn" if seconds >= SLOW else ""
    return Cell(span(seconds), seconds, look)


def span(seconds: float) -> str:
    """Return a time in at most five characters."""
    if seconds < 0.00095:
        return f"{seconds * 1e3:.1f}ms" if seconds else "0ms"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f}ms"
    if seconds < 99.95:
        return f"{seconds:.1f}s"
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 100:
        return f"{minutes:.0f}m"
    return f"{hours:.0f}h" if hours < 100 else f"{hours / 24:.0f}d"


def memory(size: float) -> str:
    """Return a number of bytes in at most five characters."""
    mebibytes = size / MEBIBYTE
    return f"{mebibytes:.0f}M" if mebibytes < 9999.5 else f"{mebibytes / 1024:.1f}G"

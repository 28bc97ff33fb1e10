"""Answers as text for people: tables that fit a terminal, and nothing in them that a terminal would obey."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from djworker.units import MEBIBYTE

__all__ = ["block", "no_pools", "printable", "progress", "render", "state_of"]

#: What a terminal obeys: a path, a statement or a project's name may hold it.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROL_BUT_NEWLINE: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def printable(text: str) -> str:
    """Return one line without control characters."""
    return _CONTROL.sub(_escaped, text)


def block(text: str) -> str:
    """Return lines without control characters."""
    return _CONTROL_BUT_NEWLINE.sub(_escaped, text.rstrip("\n"))


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def progress(fields: Mapping[str, Any]) -> str:
    """Return the line of something that happened."""
    return printable(str(fields.get("message", "")))


def render(verb: str, answer: Mapping[str, Any]) -> str:
    """Return an answer as text."""
    return _RENDERERS.get(verb, _message)(answer)


def _message(answer: Mapping[str, Any]) -> str:
    return printable(str(answer.get("message", "done")))


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return columns; numbers stand right."""
    numbers = [
        bool(rows) and all(isinstance(row[column], int | float) for row in rows) for column in range(len(titles))
    ]
    return columns(titles, rows, numbers)


def columns(titles: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[bool]) -> str:
    """Return columns. right: whether each one's cells stand right."""
    cells = [list(titles), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles))]
    lines = [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, right, strict=True)
        )
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in lines)


def state_of(status: Mapping[str, Any]) -> str:
    """Return what a server does, in a word: ``starting``, ``serving``, ``reloading`` or ``stopping``."""
    if status["server"]["stopping"]:
        return "stopping"
    if not status["generation"]:
        return "starting"
    return "reloading" if status["rolling"] else "serving"


def _status(answer: Mapping[str, Any]) -> str:
    server, state = answer["server"], state_of(answer)
    lines = [
        printable(
            f"{server['name']} in {server['directory']}, settings {server['settings']}, pid {server['pid']}: {state}"
        ),
        printable(f"listening on {', '.join(server['addresses']) or 'nothing'}"),
        f"generation {answer['generation']}, {answer['workers_ready']} of {answer['workers_wanted']} workers ready",
        *_last_reload(answer.get("last_reload")),
        *(f"database {one['alias']!r} is paused for {one['seconds']:.0f} s" for one in answer.get("paused", ())),
        "",
        table(_WORKER_TITLES, [_worker(worker) for worker in answer["workers"]]),
    ]
    molds = ", ".join(f"{mold['generation']} {mold['state']} (pid {mold['pid']})" for mold in answer["generations"])
    return "\n".join([*lines, "", f"generations: {molds or 'none'}"])


def _last_reload(last: Mapping[str, Any] | None) -> list[str]:
    if last is None:
        return []
    if last["ok"]:
        return [f"last reload: generation {last['generation']} serves"]
    return [printable(f"last reload: generation {last['generation']} failed: {last['reason']}")]


_WORKER_TITLES: Final = (
    "slot",
    "gen",
    "pid",
    "state",
    "running",
    "oldest",
    "requests",
    "conns",
    "hub",
    "stalls",
    "MiB",
    "db",
)


def _worker(worker: Mapping[str, Any]) -> list[object]:
    pool = worker["pool"]
    state = (
        f"{worker['state']}, to be replaced" if worker["replaced"] and worker["state"] == "ready" else worker["state"]
    )
    return [
        worker["slot"],
        worker["generation"],
        worker["pid"],
        state,
        worker["running"],
        f"{worker['oldest']:.1f} s" if worker["oldest"] else "",
        worker["requests"],
        worker["connections"],
        f"{worker['hub_silent']:.1f} s",
        worker["stalls"],
        round(worker["rss"] / MEBIBYTE),
        f"{pool['size']}/{pool['max']}, {pool['waiting']} wait" if pool["max"] else "",
    ]


def _history(answer: Mapping[str, Any]) -> str:
    samples = answer["samples"]
    rows = [
        [
            time.strftime("%H:%M:%S", time.localtime(at)),
            *(int(samples[name][number]) for name in ("generation", "ready", "running", "queued")),
            *(round(samples[name][number], 1) for name in ("requests", "errors")),
            *(_milliseconds(samples[name][number]) for name in ("p50", "p99")),
            round(samples["cpu"][number] * 100),
            round(samples["memory"][number] / MEBIBYTE),
            _milliseconds(samples["lag"][number]),
            f"{samples['leased'][number]:.0f}/{samples['connections'][number]:.0f}",
            int(samples["waiting"][number]),
        ]
        for number, at in enumerate(samples["at"])
    ]
    lines = [table(_HISTORY_TITLES, rows)] if rows else [f"no sample: there is one every {answer['interval']:g} s"]
    for one in answer["reloads"]:
        verdict = "serves" if one["ok"] else f"failed: {one['reason']}"
        when = time.strftime("%F %T", time.localtime(one["at"]))
        lines.append(printable(f"{when}  reload: generation {one['generation']} {verdict}"))
    return "\n".join(lines)


_HISTORY_TITLES: Final = (
    *("time", "gen", "ready", "running", "queued", "req/s", "err/s", "p50 ms", "p99 ms"),
    *("cpu %", "MiB", "lag ms", "db", "db wait"),
)


def _milliseconds(seconds: float | None) -> object:
    return "" if seconds is None else round(seconds * 1000, 1)


def _who(worker: Mapping[str, Any]) -> str:
    return f"worker {worker['slot']} of generation {worker['generation']}, pid {worker['pid']}"


def _silent(workers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is to be known of workers beside their answers: who is silent, and whose hub is blocked."""
    lines = []
    for worker in workers:
        if not worker["answered"]:
            lines.append(printable(f"{_who(worker)}: {worker['note']}"))
        elif worker["by"] == "thread":
            lines.append(f"{_who(worker)}: its hub is blocked for {worker['blocked']:.1f} s")
    return lines


def _requests(answer: Mapping[str, Any]) -> str:
    rows = [_request(request) for request in answer["requests"]]
    lines = (
        [table(("id", "slot", "age", "phase", "request", "view", "client"), rows)] if rows else ["no request in flight"]
    )
    statements = [
        printable(f"{request['id']}  {request['alias']}: {request['sql']}")
        for request in answer["requests"]
        if request["sql"]
    ]
    more = [
        f"{_who(worker)}: {worker['left_out']} more requests are not shown"
        for worker in answer["workers"]
        if worker.get("left_out")
    ]
    return "\n".join([*lines, *statements, *more, *_silent(answer["workers"])])


def _request(request: Mapping[str, Any]) -> list[object]:
    phase = f"{request['phase']}, blocks the hub" if request.get("blocks_hub") else request["phase"]
    what = f"{request['method']} {request['path']}".strip() or "(not read yet)"
    return [request["id"], request["slot"], f"{request['age']:.1f} s", phase, what, request["view"], request["client"]]


def _trace(answer: Mapping[str, Any]) -> str:
    lines = _silent(answer["workers"])
    for worker in answer["workers"]:
        lines += ["", f"== {_who(worker)}"]
        if worker["main"]:
            lines += ["-- the main thread, which blocks the hub", block(worker["main"])]
        for group in worker["groups"]:
            one = group["request"]
            title = (
                f"-- {one['method']} {one['path']} ({one['view'] or 'no view yet'}), {one['age']:.1f} s, {one['phase']}"
            )
            lines += [printable(title), *(block(stack) for stack in group["stacks"])]
        for other in worker["others"]:
            lines += [f"-- no request, {other['count']} alike", block(other["stack"])]
        if worker["left_out"]:
            lines.append(f"-- {worker['left_out']} more were left out")
    return "\n".join(lines).lstrip("\n")


def no_pools(answer: Mapping[str, Any]) -> str:
    """Return why an answer of ``pool`` names no pool."""
    databases = answer.get("databases", ())
    if unused := [repr(one["alias"]) for one in databases if one["pooled"]]:
        return printable(f"no pools yet: no worker has used {', '.join(unused)}")
    if unpooled := [f"{one['alias']!r} ({one['engine']})" for one in databases]:
        return printable(f"no pools: these databases have none: {', '.join(unpooled)}")
    if any(worker["answered"] for worker in answer.get("workers", ())):
        return "no pools: DATABASES names no database"
    return "no pools are known: no worker has answered"


def _pool(answer: Mapping[str, Any]) -> str:
    lines = []
    for pool in answer["pools"]:
        name = f"{pool['alias']} ({pool['database']})" if pool["database"] else pool["alias"]
        numbers = ", ".join(f"{title} {pool[title]}" for title in ("size", "idle", "leased", "waiting", "bound"))
        state = f", paused for {pool['paused']:.0f} s" if pool.get("paused") else ", outage" if pool["outage"] else ""
        lines.append(printable(f"{name}, slot {pool['slot']}: {numbers}{state}"))
        lines += [printable(f"    held for {one['age']:.1f} s by {one['who']}") for one in pool["holders"]]
        lines += [printable(f"    pinned {count} times: {reason}") for reason, count in pool["pins"].items()]
    return "\n".join([*(lines or [no_pools(answer)]), *_silent(answer["workers"])])


_RENDERERS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "status": _status,
    "history": _history,
    "requests": _requests,
    "trace": _trace,
    "pool": _pool,
}

"""Answers as text for people: tables that fit a terminal, and nothing in them that a terminal would obey."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

__all__ = ["block", "printable", "progress", "render"]

#: What a terminal obeys: a path, a statement or a project's name may hold it.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROL_BUT_NEWLINE: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_MEBIBYTE: Final = 1 << 20


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
    cells = [list(titles), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles))]
    numbers = [
        bool(rows) and all(isinstance(row[column], int | float) for row in rows) for column in range(len(titles))
    ]
    lines = [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numbers, strict=True)
        )
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in lines)


def _status(answer: Mapping[str, Any]) -> str:
    server = answer["server"]
    state = "reloading" if answer["rolling"] else "serving"
    if server["stopping"] or not answer["generation"]:
        state = "stopping" if server["stopping"] else "starting"
    lines = [
        printable(
            f"{server['name']} in {server['directory']}, settings {server['settings']}, pid {server['pid']}: {state}"
        ),
        printable(f"listening on {', '.join(server['addresses']) or 'nothing'}"),
        f"generation {answer['generation']}, {answer['workers_ready']} of {answer['workers_wanted']} workers ready",
        *_last_reload(answer.get("last_reload")),
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


_WORKER_TITLES: Final = ("slot", "gen", "pid", "state", "running", "oldest", "requests", "conns", "hub", "MiB", "db")


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
        round(worker["rss"] / _MEBIBYTE),
        f"{pool['size']}/{pool['max']}, {pool['waiting']} wait" if pool["max"] else "",
    ]


_RENDERERS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {"status": _status}

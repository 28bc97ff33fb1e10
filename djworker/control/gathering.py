"""What several workers have said, put together into one answer. What one of them says wrongly is its own note."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from djworker.bug import Bug
from djworker.control.client import ControlConnection
from djworker.control.protocol import Reply

__all__ = ["ask", "collect", "gather", "receive"]

#: A worker and what it has said.
Said = tuple[dict[str, Any], dict[str, Any]]


def gather(verb: str, result: Mapping[str, Any], said: Mapping[int, str]) -> dict[str, Any]:
    """Return the answer to a verb.

    Args:
        verb: its name.
        result: what the arbiter says at the end; for verbs that workers answer, which of them did.
        said: by the arbiter's number of a worker, the text that it has said.
    """
    if verb not in _GATHERERS:
        return dict(result)
    read = [_read(worker, said.get(worker.get("worker", 0), "")) for worker in result.get("workers", ())]
    return _GATHERERS[verb](read)


def ask(
    connection: ControlConnection, verb: str, arguments: Mapping[str, Any] | None = None, timeout: float | None = None
) -> dict[str, Any]:
    """Ask, and return the answer as ``--json`` prints it, without ``version`` and ``verb``.

    Args:
        connection: to the server.
        verb: its name.
        arguments: of the verb.
        timeout: seconds for the whole answer; without it, for each line.

    Raises:
        RefusedError: the server does not do it.
        UnreachableError: it does not answer.
    """
    return collect(verb, connection.ask(verb, arguments, timeout))


def receive(connection: ControlConnection, verb: str, timeout: float | None = None) -> dict[str, Any]:
    """Read the answer to a verb that was sent; see ``ask``."""
    return collect(verb, connection.replies(timeout))


def collect(
    verb: str, replies: Iterable[Reply], progress: Callable[[Mapping[str, Any]], object] = lambda _fields: None
) -> dict[str, Any]:
    """Put the lines of an answer together. progress: is told of what happens meanwhile."""
    said: dict[int, str] = {}
    for reply in replies:
        if reply.kind == "progress":
            progress(reply.fields)
        elif reply.kind == "piece":
            worker = reply.fields.get("worker", 0)
            said[worker] = said.get(worker, "") + str(reply.fields.get("text", ""))
        elif reply.kind == "result":
            return gather(verb, reply.fields, said)
    raise Bug("bug: an answer ended without a result")


def _read(worker: Mapping[str, Any], text: str) -> Said:
    """Return a worker, with a note where nothing can be known of it, and what it has said."""
    told = {"by": "", "blocked": 0.0, **{name: value for name, value in worker.items() if name != "worker"}}
    if not told.get("answered"):
        return told, {}
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        return told | {"answered": False, "note": "its answer cannot be read"}, {}
    told |= {name: answer.pop(name) for name in ("by", "blocked") if name in answer}
    if "error" in answer:
        return told | {"answered": False, "note": f"it failed to answer: {answer['error']}"}, {}
    return told, answer


def _named(worker: Mapping[str, Any]) -> dict[str, Any]:
    return {name: worker.get(name) for name in ("slot", "generation", "pid")}


def _requests(read: list[Said]) -> dict[str, Any]:
    found = [_named(worker) | request for worker, answer in read for request in answer.get("requests", ())]
    for worker, answer in read:
        worker["left_out"] = answer.get("left_out", 0)
        worker["arriving"] = answer.get("arriving", 0)
    return {
        "requests": sorted(found, key=lambda request: -request.get("age", 0.0)),
        "workers": [worker for worker, _ in read],
    }


def _trace(read: list[Said]) -> dict[str, Any]:
    return {
        "workers": [
            {"main": "", "groups": [], "others": [], "left_out": 0} | answer | worker for worker, answer in read
        ]
    }


def _pool(read: list[Said]) -> dict[str, Any]:
    pools = [_named(worker) | pool for worker, answer in read for pool in answer.get("pools", ())]
    databases = {one["alias"]: one for _, answer in read for one in answer.get("databases", ())}
    return {
        "pools": sorted(pools, key=lambda pool: (pool["alias"], pool["slot"], pool["pid"])),
        "databases": list(databases.values()),
        "workers": [worker for worker, _ in read],
    }


def _kill(read: list[Said]) -> dict[str, Any]:
    killed = [_named(worker) | request for worker, answer in read for request in answer.get("killed", ())]
    if killed:
        one = killed[0]
        message = f"ended {one['method']} {one['path']} in slot {one['slot']} after {one['age']:.1f} s ({one['phase']})"
        return {"killed": killed, "message": message}
    refused = next((answer["refused"] for _, answer in read if "refused" in answer), "")
    silent = [f"slot {worker['slot']}: {worker['note']}" for worker, _ in read if not worker["answered"]]
    unknown = f"; not known: {', '.join(silent)}" if silent else ""
    return {"refused": refused or f"no request in flight has this id{unknown}"}


def _pausing(read: list[Said]) -> dict[str, Any]:
    """What all workers did; refused where one of them says why."""
    if refused := next((answer["refused"] for _, answer in read if "refused" in answer), ""):
        return {"refused": refused}
    done = [answer for worker, answer in read if worker["answered"]]
    leased, waiting = (sum(answer.get(name, 0) for answer in done) for name in ("leased", "waiting"))
    silent = [f"slot {worker['slot']}: {worker['note']}" for worker, _ in read if not worker["answered"]]
    text = f"done in {len(done)} of {len(read)} workers; {leased} connections are lent, {waiting} requests wait"
    if silent:
        return {"refused": f"{text}; not done: {', '.join(silent)}"}
    return {"message": text, "leased": leased, "waiting": waiting}


_GATHERERS: Final[Mapping[str, Callable[[list[Said]], dict[str, Any]]]] = {
    "requests": _requests,
    "trace": _trace,
    "pool": _pool,
    "kill": _kill,
    "pause": _pausing,
    "resume": _pausing,
}

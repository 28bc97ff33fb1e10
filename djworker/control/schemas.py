"""What ``--json`` prints, as JSON Schema: for the reference page, and for the tests, which hold every answer against it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from djworker.control.protocol import VERSION
from djworker.ipc.contract import RequestPhase

__all__ = ["SCHEMAS", "SMOKE"]

Schema = dict[str, Any]


def _a(kind: str, text: str) -> Schema:
    return {"type": kind, "description": text}


def _object(**fields: Schema) -> Schema:
    return {"type": "object", "properties": fields, "required": sorted(fields)}


def _another(text: str) -> Schema:
    """An object with a schema of its own."""
    return _a("object", text) | {"additionalProperties": True}


def _list(items: Schema, text: str = "") -> Schema:
    return {"type": "array", "items": items, **({"description": text} if text else {})}


def _numbers(text: str, *other: str) -> Schema:
    """One number for each sample."""
    return _list({"type": ["number", *other] if other else "number"}, text)


def _answer(verb: str, **fields: Schema) -> Schema:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": verb,
        **_object(version={"const": VERSION}, verb={"const": verb}, **fields),
    }


_WORKER: Final = {
    "slot": _a("integer", "number of the worker, from 0"),
    "generation": _a("integer", "generation of its code"),
    "pid": _a("integer", "process id; 0 before it is forked"),
}
_STATE: Final = {
    "state": {"enum": ["starting", "ready", "draining", "killed"]},
    "replaced": _a("boolean", "it is to be replaced"),
}
_ASKED: Final = {
    **_WORKER,
    **_STATE,
    "answered": _a("boolean", "whether it has answered within a second"),
    "note": _a("string", "why it has not"),
    "by": {
        "enum": ["hub", "thread", ""],
        "description": "who has answered: its hub, or a thread if the hub is blocked",
    },
    "blocked": _a("number", "seconds for which its hub is blocked; 0 if it is not"),
}
_REQUEST: Final = {
    "id": _a("string", "for kill"),
    "method": _a("string", "empty while the head is not read"),
    "path": _a("string", "path and query"),
    "view": _a("string", "name of the URL, or dotted name of the view; empty before it is known"),
    "age": _a("number", "seconds since its first byte"),
    "phase": {
        "enum": [
            RequestPhase.READING_HEAD,
            RequestPhase.READING_BODY,
            RequestPhase.QUEUED,
            RequestPhase.RUNNING,
            RequestPhase.WAITING_FOR_CONNECTION,
            RequestPhase.IN_SQL,
            RequestPhase.WRITING,
        ]
    },
    "alias": _a("string", "the database that it asks, or waits for"),
    "sql": _a("string", "the statement that runs, or waits for a connection; without its parameters"),
    "client": _a("string", "address of the client, as the application is told"),
    "peer": _a("string", "address and port of the other end: a proxy's, where there is one"),
    "request_id": _a("string", "X-Request-ID"),
    "blocks_hub": _a("boolean", "it blocks the hub of its worker"),
}
_RECENT: Final = _object(
    requests_per_second=_a("number", "answered, since the last look: a second at least, ten at most"),
    errors_per_second=_a("number", "of these, with 5xx"),
    cpu=_a("number", "processors that were busy"),
    p50={
        "type": ["number", "null"],
        "description": "seconds for half of the requests of the last 10 to 20 seconds; null: none",
    },
    p99={"type": ["number", "null"], "description": "seconds for 99 of 100 of them"},
)
_GAUGES: Final = {
    "hub_silent": _a("number", "seconds since its hub turned: half a second at most if all is well"),
    "running": _a("integer", "requests that run"),
    "queued": _a("integer", "requests that are complete and wait to begin"),
    "requests": _a("integer", "requests answered since the fork"),
    "errors": _a("integer", "of these, with 5xx"),
    "oldest": _a("number", "age of the oldest request, seconds"),
    "connections": _a("integer", "of clients"),
    "idle_connections": _a("integer", "of these, without a request"),
    "hub_lag": _a("number", "seconds by which its hub was late, at the last look"),
    "stalls": _a("integer", "times since the fork that its hub did not turn for stall_threshold"),
    "cpu_seconds": _a("number", "processor time since the fork"),
    "rss": _a("integer", "resident memory, bytes"),
    "pss": _a(
        "integer",
        "memory in which a page that several processes share counts in parts, bytes; looked at every 10 seconds",
    ),
    "pool": _object(
        size=_a("integer", "database connections, all aliases together"),
        idle=_a("integer", "of these, not lent"),
        waiting=_a("integer", "requests that wait for one"),
        max=_a("integer", "the bound"),
    ),
}
_SERVER: Final = _object(
    pid=_a("integer", "the arbiter's process id"),
    name=_a("string", "of the project"),
    directory=_a("string", "working directory"),
    path=_a("string", "first import path"),
    settings=_a("string", "settings module, or the module of the command line"),
    djworker=_a("string", "version"),
    addresses=_list({"type": "string"}, "where it listens"),
    stopping=_a("boolean", ""),
    started=_a("number", "seconds since 1970"),
)
_GENERATION: Final = _object(
    generation=_a("integer", ""),
    state={"enum": ["booting", "measuring", "probing", "ready", "retiring", "killed"]},
    pid=_a("integer", "of its mold; 0 where it has none now"),
)
_LAST_RELOAD: Final = {
    "type": ["object", "null"],
    "description": "null before the first",
    "properties": {
        "generation": _a("integer", ""),
        "ok": _a("boolean", ""),
        "reason": _a("string", "why it has failed"),
    },
}

#: By verb.
SCHEMAS: Final[Mapping[str, Schema]] = {
    "status": _answer(
        "status",
        server=_SERVER,
        generation=_a("integer", "the one in force; 0 before the first"),
        workers_wanted=_a("integer", ""),
        workers_ready=_a("integer", ""),
        rolling=_a("boolean", "a new generation is being brought in"),
        log_level=_a("string", ""),
        recent=_RECENT,
        restarts={
            "type": "object",
            "additionalProperties": {"type": "integer"},
            "description": "workers that have ended and were to be replaced, by cause",
        },
        last_reload=_LAST_RELOAD,
        paused=_list(_object(alias=_a("string", ""), seconds=_a("number", "yet, at most"))),
        generations=_list(_GENERATION),
        workers=_list(
            _object(
                **_WORKER,
                **_STATE,
                **_GAUGES,
                restarts=_a("integer", "workers that were replaced in this slot"),
                recent=_RECENT,
            )
        ),
    ),
    "top": _answer(
        "top",
        trouble=_a("string", "why the server does not answer; empty where it does"),
        status=_another("as `status` prints it, without `version` and `verb`; empty before the first answer"),
        requests=_another("the same of `requests`; empty while no worker can be asked"),
        pool=_another("the same of `pool`"),
    ),
    "history": _answer(
        "history",
        interval=_a("number", "seconds between two samples"),
        samples=_object(
            at=_numbers("seconds since 1970, the oldest first"),
            generation=_numbers("the one in force"),
            ready=_numbers("workers"),
            wanted=_numbers("workers"),
            running=_numbers("requests that run"),
            queued=_numbers("requests that wait to begin"),
            requests=_numbers("answered, per second"),
            errors=_numbers("of these, with 5xx, per second"),
            p50=_numbers("seconds for half of the requests; null where there was none", "null"),
            p99=_numbers("seconds for 99 of 100 of them", "null"),
            cpu=_numbers("processors that were busy"),
            memory=_numbers("of the workers (PSS), bytes"),
            lag=_numbers("of the latest loop, seconds"),
            connections=_numbers("of databases"),
            leased=_numbers("of these, lent"),
            waiting=_numbers("requests that wait for one"),
        ),
        reloads=_list(
            _object(
                at=_a("number", "seconds since 1970"),
                generation=_a("integer", ""),
                ok=_a("boolean", ""),
                reason=_a("string", "why it has failed"),
            ),
            "the latest last",
        ),
    ),
    "requests": _answer(
        "requests",
        requests=_list(_object(**_WORKER, **_REQUEST), "the oldest first"),
        workers=_list(
            _object(
                **_ASKED,
                left_out=_a("integer", "requests beyond the first 500"),
                arriving=_a("integer", "connections that wait for their turn"),
            )
        ),
    ),
    "trace": _answer(
        "trace",
        workers=_list(
            _object(
                **_ASKED,
                main=_a("string", "if its hub is blocked: the stack of its main thread"),
                groups=_list(
                    _object(
                        request=_object(**_REQUEST),
                        stacks=_list({"type": "string"}, "its own, then those of greenlets that it has spawned"),
                    )
                ),
                others=_list(_object(count=_a("integer", ""), stack=_a("string", "")), "of no request"),
                left_out=_a("integer", "groups and stacks that did not find room"),
            )
        ),
    ),
    "pool": _answer(
        "pool",
        pools=_list(
            _object(
                **_WORKER,
                alias=_a("string", "in DATABASES"),
                database=_a("string", "name of the database"),
                size=_a("integer", "connections"),
                idle=_a("integer", "not lent"),
                leased=_a("integer", "lent"),
                waiting=_a("integer", "requests that wait for one"),
                bound=_a("integer", "connections at most"),
                outage=_a("boolean", "no attempt to connect succeeds"),
                paused=_a("number", "for how many seconds yet requests wait, at most"),
                holders=_list(
                    _object(view=_a("string", ""), who=_a("string", "request and view"), age=_a("number", "seconds")),
                    "the longest first",
                ),
                pins={
                    "type": "object",
                    "additionalProperties": {"type": "integer"},
                    "description": "why sessions were kept to the end of a request, how often since the worker began",
                },
            )
        ),
        databases=_list(
            _object(
                alias=_a("string", "in DATABASES"),
                engine=_a("string", "in DATABASES"),
                pooled=_a("boolean", "has a pool in each worker, from its first use on"),
            )
        ),
        workers=_list(_object(**_ASKED)),
    ),
}

#: What ``runworkers --smoke --json`` prints.
SMOKE: Final[Schema] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "smoke",
    **_object(
        version={"const": VERSION},
        ok=_a("boolean", "all checks were made, and found nothing"),
        paths=_list({"type": "string"}, "that were asked"),
        workers=_a("integer", "that were ready"),
        statuses={
            "type": "object",
            "additionalProperties": {"type": "integer"},
            "description": "how many answers had each status",
        },
        seconds=_a("number", "from the start to the end of the stop"),
        checks=_list(
            _object(
                check={"enum": ["boot", "requests", "pool", "leaks", "reload", "stop"]},
                outcome={"enum": ["ok", "FAILED", "not made"]},
                seen=_a("string", "in words; empty where it was not made"),
                problems=_list({"type": "string"}, "each told once"),
            ),
            "in the order in which they are made",
        ),
    ),
}

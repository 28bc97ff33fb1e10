"""What requests do with the database at this moment, and what the pools hold: read from live objects when an operator asks.

Nothing is noted for it while requests run. Greenlets that wait show where in their frames; so it can also be read by a native
thread while the hub is blocked.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from django.core.handlers.base import BaseHandler
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from djworker.conf.engine_names import GEVENTPOOL, NO_DATABASE, POOLED
from djworker.db.engines import serving
from djworker.db.lease import registry
from djworker.db.lease.cursor import LeasedCursor
from djworker.db.lease.registry import leased_pools, pool_watches
from djworker.db.observe import labels
from djworker.db.observe.labels import view_of
from djworker.db.pool.driver import C
from djworker.db.pool.scheduler import Scheduler
from djworker.db.pool.stats import Holder
from djworker.ipc.contract import RequestPhase

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import CodeType, FrameType

    from djworker.db.lease.leased_pool import LeasedPool
    from djworker.db.pool.pool import Pool
    from djworker.db.pool.slots import Slot

_WAITING, _IN_SQL = RequestPhase.WAITING_FOR_CONNECTION, RequestPhase.IN_SQL
#: Characters of a statement.
SQL_SHOWN: Final = 2000
#: Holders of one pool.
HOLDERS_SHOWN: Final = 100


def _codes(owner: type, *names: str) -> set[CodeType]:
    """Of methods of others' classes: one that a version does not have is left out."""
    return {code for name in names if (code := getattr(getattr(owner, name, None), "__code__", None)) is not None}


_WAITS: Final = _codes(Scheduler, "wait")
#: Django's cursor, and ours below it, which code may use by itself.
_RUNS: Final = _codes(CursorWrapper, "_execute", "_executemany")
_RUNS_LEASED: Final = _codes(LeasedCursor, "execute", "_run")
_ENDS: Final = {
    code: statement
    for name, statement in (("_commit", "COMMIT"), ("_rollback", "ROLLBACK"))
    for code in _codes(BaseDatabaseWrapper, name)
}
_RESOLVES: Final = _codes(BaseHandler, "_get_response")


class Doing(NamedTuple):
    """What a greenlet does; ``phase`` is empty where it has nothing to do with a database."""

    phase: str = ""
    alias: str = ""
    sql: str = ""
    #: The name of the URL, or the dotted name of the view; empty before it is known.
    view: str = ""


def doing(frames: Iterable[FrameType]) -> Doing:
    """Return what a greenlet does. frames: where it is, the innermost first."""
    found = Doing()
    for frame in frames:
        code = frame.f_code
        if code in _WAITS and not found.phase:
            found = found._replace(phase=_WAITING, alias=str(frame.f_locals["self"].state.name))
        elif code in _RUNS:
            found = _in_sql(found, frame.f_locals, str(frame.f_locals["self"].db.alias))
        elif code in _RUNS_LEASED:  # whose unknown attributes are the library's, and take a connection
            found = _in_sql(found, frame.f_locals, str(frame.f_locals["self"]._lease.leased_pool.alias))  # noqa: SLF001 - of a frame, and no method may be called there
        elif code in _ENDS and not found.sql:
            alias = str(frame.f_locals["self"].alias)
            found = found._replace(phase=found.phase or _IN_SQL, alias=alias, sql=_ENDS[code])
        elif code in _RESOLVES:
            return found._replace(view=_view(frame.f_locals.get("request")))
    return found


def _in_sql(found: Doing, names: Mapping[str, object], alias: str) -> Doing:
    sql = found.sql or _shown(names.get("sql"))
    return found._replace(phase=found.phase or _IN_SQL, alias=found.alias or alias, sql=sql)


def _shown(sql: object) -> str:
    if isinstance(sql, bytes):
        sql = sql.decode(errors="replace")
    if not isinstance(sql, str):  # made of parts, and to put them together may take a connection
        sql = f"({type(sql).__name__})"
    return " ".join(sql[:SQL_SHOWN].split())


def last_sql(greenlet: object) -> str:
    """Return the last statement that a greenlet has begun, in its request; without its parameters. Safe in other threads."""
    statement = labels.last_statement(greenlet)
    return "" if statement is None else _shown(statement)


def view_at(environ: Mapping[str, object]) -> str:
    """Return the view of a request whose frames do not tell it: its answer is being streamed; empty without one.

    Project code may run for it.
    """
    return labels.view_at(environ)


def _view(request: object) -> str:
    match = getattr(request, "resolver_match", None)
    return str(match.view_name) if match is not None else ""


def owners() -> list[object]:
    """The greenlets that hold a connection of a pool of this process."""
    slots = [slot for pool_watch in pool_watches() for slot in pool_watch.pool.leased()]
    return [owner for slot in slots if slot.owner is not None and (owner := slot.owner()) is not None]


def let_go() -> None:
    """Close the calling greenlet's connections: its request was ended, and Django does not do it for such a one."""
    for connection in connections.all(initialized_only=True):
        with suppress(Exception):  # what cannot be closed goes back when the greenlet ends, a moment later
            connection.close()


def pause(alias: str, seconds: float) -> dict[str, object]:
    """Have requests wait that want a connection of *alias*, for so many seconds at most."""
    return _refusal(alias) or _paused(registry.pause(alias, seconds))


def resume(alias: str) -> dict[str, object]:
    """End such a pause."""
    return _refusal(alias) or _paused(registry.resume(alias))


def _refusal(alias: str) -> dict[str, object]:
    if alias not in connections.settings:
        return {"refused": f"no database {alias!r}; there are: {', '.join(connections.settings)}"}
    if connections[alias].vendor == "sqlite":
        return {"refused": f"database {alias!r} has no pool (SQLite): there is nothing to wait for"}
    return {}


def _paused(pools: list[Pool[C]]) -> dict[str, object]:
    numbers = [pool.stats() for pool in pools]
    return {
        "pools": len(pools),
        "leased": int(sum(one["pool_leased"] for one in numbers)),
        "waiting": int(sum(one["requests_waiting"] for one in numbers)),
    }


def pools() -> list[dict[str, object]]:
    """Return the pools of this process, with who holds what. Only reads, so it may run in another thread."""
    now = time.monotonic()
    ours = [_leased_pool(leased_pool, now) for leased_pool in leased_pools()]
    own = {id(leased_pool.pool) for leased_pool in leased_pools()}
    return ours + [
        _pool(pool_watch.pool, now) | {"pins": {}} for pool_watch in pool_watches() if id(pool_watch.pool) not in own
    ]


def databases() -> list[dict[str, object]]:
    """Return each alias of the project with its engine, and whether that has a pool here. Only reads."""
    return [
        {"alias": alias, "engine": engine, "pooled": _pooled(engine)}
        for alias, database in connections.settings.items()
        if (engine := str(database.get("ENGINE", ""))) and engine != NO_DATABASE
    ]


def _pooled(engine: str) -> bool:
    return serving(engine) in POOLED or engine.startswith(GEVENTPOOL)


def _leased_pool(leased_pool: LeasedPool, now: float) -> dict[str, object]:
    name = str(leased_pool.settings.get("NAME", ""))
    return _pool(leased_pool.pool, now) | {
        "alias": leased_pool.alias,
        "database": name,
        "pins": dict(leased_pool.counters.pins),
    }


def _pool(pool: Pool[C], now: float) -> dict[str, object]:
    numbers = pool.stats()
    return {
        "alias": pool.name,
        "database": "",
        "size": int(numbers["pool_size"]),
        "idle": int(numbers["pool_available"]),
        "leased": int(numbers["pool_leased"]),
        "waiting": int(numbers["requests_waiting"]),
        "bound": int(numbers["pool_max"]),
        "outage": bool(numbers["circuit_open"]),
        "paused": round(pool.paused, 3),
        "holders": [_holder(slot, now) for slot in pool.leased()[:HOLDERS_SHOWN]],
    }


def _holder(slot: Slot[C], now: float) -> dict[str, object]:
    holder = Holder.of(slot, now)
    return {"view": view_of(slot.label), "who": holder.label, "age": round(holder.age, 3)}

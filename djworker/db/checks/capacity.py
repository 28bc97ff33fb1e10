"""How many connections a server takes, asked of the server, against how many all workers together may want.

Asked on a connection of Django's own engine that is closed at once: no pool and no lease has to do with it, and who asks
need not be green.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple

from django.conf import settings
from django.core.checks import CheckMessage, Warning  # noqa: A004 - Django's own name
from django.db import DatabaseError, InterfaceError, connections

from djworker.conf.engine_names import ENGINES, GEVENTPOOL, MAX_CONNS, POOLED
from djworker.conf.pool_resolve import for_alias
from djworker.conf.problems import ConfigError
from djworker.db.checks import demand
from djworker.db.drivers import connect_errors
from djworker.db.engines import serving
from djworker.ipc.contract import SURGE

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

_POSTGRES, _MYSQL = "django.db.backends.postgresql", "django.db.backends.mysql"
#: Django's engine that asks, for each of ours; PostGIS would need its libraries for it.
_STOCK: Final = {ours: _MYSQL if stock == _MYSQL else _POSTGRES for stock, ours in ENGINES.items() if ours in POOLED}
#: What this user may have in this database: the server's number is for all, and keeps some for its administrators.
_QUESTIONS: Final = {
    _POSTGRES: """SELECT min(n) FROM (
        SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
            - coalesce(current_setting('reserved_connections', true), '0')::int
        UNION ALL SELECT rolconnlimit FROM pg_catalog.pg_roles WHERE rolname = current_user
        UNION ALL SELECT datconnlimit FROM pg_catalog.pg_database WHERE datname = current_database()
        ) AS limits(n) WHERE n >= 0""",
    _MYSQL: """SELECT LEAST(@@max_connections,
        IF(@@session.max_user_connections > 0, @@session.max_user_connections, @@max_connections))""",
}
_HINT: Final = (
    "lower max_size or workers, or raise the server's limit; connections that the last requests of draining workers hold come"
    " on top"
)
_GEVENTPOOLS_OWN: Final = ("MAX_CONNS", "REUSE_CONNS", "pool")


class Demand(NamedTuple):
    """What one alias wants of its server."""

    alias: str
    stock: str  # Django's engine for it
    max_size: int  # per worker


def check(aliases: Iterable[str]) -> Iterator[CheckMessage]:
    """Ask every server behind these aliases. One that cannot be asked is a warning too: its first request would find out."""
    for pools in _by_server(aliases):
        try:
            limit = _limit(pools[0])
        except (DatabaseError, InterfaceError, OSError) as error:
            alias = pools[0].alias
            why = connect_errors.explain(error, connections.settings[alias], alias)
            text = f"database {alias!r} cannot be asked how many connections it takes: {why.said}"
            yield Warning(text, hint=why.hint, id="djworker.W111")
        else:
            yield from _compare(pools, limit)


def askable(aliases: Iterable[str]) -> list[str]:
    """Those of these whose server would be asked."""
    return [alias for alias in aliases if _pool(alias) is not None]


def most_connections(aliases: Iterable[str]) -> int:
    """How many connections the pools of one worker may have together."""
    return sum(pool.max_size for pool in map(_pool, aliases) if pool is not None)


def _by_server(aliases: Iterable[str]) -> Iterable[list[Demand]]:
    """Aliases of one user at one server share what they are given."""
    servers: dict[tuple[str, ...], list[Demand]] = {}
    for pool in filter(None, map(_pool, aliases)):
        database = connections.settings[pool.alias]
        server = (pool.stock, database["HOST"], str(database["PORT"]), database["USER"])
        servers.setdefault(server, []).append(pool)
    return servers.values()


def _pool(alias: str) -> Demand | None:
    database = connections.settings[alias]
    engine, options = database["ENGINE"], database["OPTIONS"]
    if engine.startswith(GEVENTPOOL):
        return Demand(alias, _POSTGRES, int(options.get("MAX_CONNS", MAX_CONNS)))
    stock = _STOCK.get(ENGINES.get(engine, serving(engine)))
    if stock is None:
        return None
    try:
        pooled = for_alias(alias, getattr(settings, "DJWORKER", {}), options.get("pool"))
    except ConfigError:  # told by the check of the options
        return None
    return Demand(alias, stock, pooled.max_size)


def _limit(pool: Demand) -> int:
    database = connections.settings[pool.alias]
    options = {name: value for name, value in database["OPTIONS"].items() if name not in _GEVENTPOOLS_OWN}
    wrapper: BaseDatabaseWrapper = import_module(f"{pool.stock}.base").DatabaseWrapper(
        {**database, "OPTIONS": options}, pool.alias
    )
    try:
        with wrapper.cursor() as cursor:
            cursor.execute(_QUESTIONS[pool.stock])
            return int(cursor.fetchone()[0])
    finally:
        wrapper.close()


def _compare(pools: list[Demand], limit: int) -> Iterator[CheckMessage]:
    each, workers = sum(pool.max_size for pool in pools), demand.workers()
    wanted = (workers + SURGE) * each
    if wanted > limit:
        names = ", ".join(repr(pool.alias) for pool in pools)
        text = (
            f"database {names}: {workers} worker{'s' * (workers > 1)}, and one more during a reload, of {each} connections"
            f" each may want {wanted}, and the server takes {limit}"
        )
        yield Warning(text, hint=_HINT, id="djworker.W108")

"""System checks of `DATABASES` and pools, `djworker.E02x` and `W1xx`; at boot they speak of the engines as they are then."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004 - Django's own name
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from djworker.checks import TAG
from djworker.conf.engine_names import ENGINES, POOLED
from djworker.conf.pool_resolve import for_alias, unused
from djworker.conf.pool_table import PoolOptions
from djworker.conf.problems import ConfigError
from djworker.db.checks import capacity, demand
from djworker.db.checks.middleware import pinning
from djworker.db.engines import serving
from djworker.db.lease.receivers import live, name_of
from djworker.db.lease.request_state import state_read_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper

#: Client libraries that wait in C, with the hub stopped: what is to be said of them, and the way out.
_BLOCKING: Final = {
    "mysql.connector": ("mysql-connector's C extension", "OPTIONS = {'use_pure': True}, or mysqlclient"),
    "mariadb": ("the mariadb connector", "mysqlclient or PyMySQL"),
    "pyodbc": ("pyodbc", "let another process ask that database, Celery for example"),
}


@register(TAG)
def check_databases(app_configs: object = None, **_: object) -> list[CheckMessage]:  # noqa: ARG001 - Django's shape
    """Everything about `DATABASES` and pools that can be known without asking a server."""
    found: list[CheckMessage] = []
    for alias in connections:
        found += _check_alias(alias, connections.settings[alias])
    found += _check_pools()
    found += _check_middleware()
    found += _check_receivers()
    return found


@register(TAG, "database")
def check_capacity(
    app_configs: object = None,  # noqa: ARG001 - Django's shape
    databases: Iterable[str] | None = None,
    **_: object,
) -> list[CheckMessage]:
    """Ask each server how many connections it takes: `check --database`, and each boot."""
    return list(capacity.check(databases or ()))


def _check_alias(alias: str, database: dict[str, Any]) -> Iterator[CheckMessage]:
    yield from _check_library(alias)
    engine = serving(database["ENGINE"])
    if engine in POOLED or engine in ENGINES:
        yield from _check_options(alias, database)
    if engine in POOLED:
        yield from _check_without_effect(alias, database)
    elif engine.endswith(".sqlite3") and demand.workers() > 1:
        text = f"database {alias!r} is SQLite, and {demand.workers()} workers write to it in turns, one at a time"
        yield Warning(text, hint="workers = 1, or PostgreSQL or MariaDB", id="djworker.W106")


def _check_library(alias: str) -> Iterator[CheckMessage]:
    try:
        wrapper: BaseDatabaseWrapper = connections[alias]
    except ImproperlyConfigured:  # Django says it, and better
        return
    name = getattr(getattr(wrapper, "Database", None), "__name__", "")
    if name in _BLOCKING and not getattr(wrapper, "use_pure", False):
        library, hint = _BLOCKING[name]
        text = f"database {alias!r}: {library} stops every request of a worker during each query"
        yield Warning(text, hint=hint, id="djworker.W101")
    if why := _late(wrapper):
        hint = "import it later, or patch first: `from gevent import monkey; monkey.patch_all()`"
        yield Error(
            f"database {alias!r} stops the whole worker whenever it connects: {why}", hint=hint, id="djworker.E025"
        )


def _late(wrapper: BaseDatabaseWrapper) -> str:
    """Why the library of a pooled engine cannot wait in the hub. Never asked where nothing is green, as in `migrate`."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("socket") or not hasattr(wrapper, "green_driver"):
        return ""
    return str(wrapper.green_driver().blocks_hub())


def _check_options(alias: str, database: dict[str, Any]) -> Iterator[CheckMessage]:
    pool = database["OPTIONS"].get("pool")
    try:
        options = for_alias(alias, getattr(settings, "DJWORKER", {}), pool)
    except ConfigError as error:
        for problem in error.problems:
            yield Error(problem.text, hint=problem.hint or None, id=f"djworker.{problem.id}")
        return
    if serving(database["ENGINE"]) in POOLED:
        yield from _check_lease(alias, database, options)
        for key, instead in unused(pool):
            text = f"database {alias!r}: {key!r} in OPTIONS['pool'] has no effect"
            yield Warning(text, hint=instead, id="djworker.W110")


def _check_lease(alias: str, database: dict[str, Any], options: PoolOptions) -> Iterator[CheckMessage]:
    if options.lease == "transaction" and database["ATOMIC_REQUESTS"]:
        text = f"database {alias!r}: with ATOMIC_REQUESTS each request holds its connection from its first query to its end"
        hint = (
            "mark views that wait for others with transaction.non_atomic_requests, or use atomic() where it is needed"
        )
        yield Warning(text, hint=hint, id="djworker.W104")
    if options.lease == "transaction" and not database["AUTOCOMMIT"]:
        text = (
            f"database {alias!r}: without AUTOCOMMIT each request holds its connection from its first query to its end"
        )
        hint = "leave AUTOCOMMIT out, and use atomic() where it is needed"
        yield Warning(text, hint=hint, id="djworker.W109")
    if options.strict and not settings.DEBUG:
        text = f"database {alias!r}: the pool is strict: every statement pays for a reset"
        yield Warning(text, hint="strict is for development and CI", id="djworker.W105")


def _check_without_effect(alias: str, database: dict[str, Any]) -> Iterator[CheckMessage]:
    if database["CONN_MAX_AGE"] != 0:
        text = f"database {alias!r}: CONN_MAX_AGE has no effect, connections live in the pool"
        hint = "leave it out; max_lifetime in DJWORKER['POOL'] is the age of connections"
        yield Warning(text, hint=hint, id="djworker.W102")
    if database["CONN_HEALTH_CHECKS"]:
        text = (
            f"database {alias!r}: CONN_HEALTH_CHECKS has no effect, the pool checks connections that were idle for long"
        )
        hint = "leave it out; check_after in DJWORKER['POOL'] is that time"
        yield Warning(text, hint=hint, id="djworker.W103")


def _check_pools() -> Iterator[CheckMessage]:
    given = getattr(settings, "DJWORKER", {})
    pools = given.get("POOLS") if isinstance(given, dict) else None
    for alias in pools if isinstance(pools, dict) else ():
        where = f"settings.DJWORKER['POOLS'] names {alias!r}"
        if alias not in connections:
            hint = f"known are {', '.join(connections)}"
            yield Error(f"{where}, and DATABASES has no such alias", hint=hint, id="djworker.E024")
        elif _may_serve(engine := connections.settings[alias]["ENGINE"]) not in POOLED:
            hint = f"engines with a pool are {', '.join(sorted(POOLED))}, and Django's that these take the place of"
            yield Warning(f"{where}, whose engine {engine} has no pool", hint=hint, id="djworker.W112")


def _check_receivers() -> Iterator[CheckMessage]:
    pooled = (alias for alias in connections if _may_serve(connections.settings[alias]["ENGINE"]) in POOLED)
    receivers = {receiver: alias for alias in pooled for receiver in _receivers_of(alias)}
    for receiver, alias in receivers.items():
        if state := state_read_by(receiver):
            text = (
                f"{name_of(receiver)}, a receiver of connection_created, reads {state}: for database {alias!r} it runs once for"
                " each real connection, outside of any request"
            )
            hint = "set the data of a request in a middleware, as the page on multi-tenancy shows"
            yield Warning(text, hint=hint, id="djworker.W113")


def _receivers_of(alias: str) -> list[Callable[..., Any]]:
    try:
        return live(type(connections[alias]))
    except ImproperlyConfigured:  # Django says it, and better
        return []


def _may_serve(engine: str) -> str:
    """Our engine that will serve this one under `runworkers`."""
    return ENGINES.get(engine) or serving(engine)


def _check_middleware() -> Iterator[CheckMessage]:
    if any(serving(connections.settings[alias]["ENGINE"]) in POOLED for alias in connections):
        for path in pinning(settings.MIDDLEWARE):
            text = f"{path} uses connection.connection: every request keeps its database connection to its end"
            yield Warning(text, hint="use connection.cursor()", id="djworker.W107")

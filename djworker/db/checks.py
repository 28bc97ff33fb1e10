"""System checks of the database layer, `djworker.E1xx` and `W1xx`; also run at boot."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  (Django's own name)
from django.db import connections
from django.utils.module_loading import import_string

from djworker.checks import TAG
from djworker.db.patch import ENGINES, GEVENTPOOL, POOLED
from djworker.db.settings import PoolOptions, resolve
from djworker.problems import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Engines whose client libraries wait in C, with the hub stopped.
_BLOCKING = {
    "mysql.connector.django": ("mysql-connector's C extension", "OPTIONS = {'use_pure': True}, or mysqlclient"),
    "django_mariadb": ("the mariadb connector", "mysqlclient or PyMySQL"),
    "mssql": ("pyodbc", "run this project's queries to it in Celery"),
}


def _green() -> bool:
    """Ask gevent only if somebody has loaded it: `migrate` runs these checks too, and stays without."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


@register(TAG)
def check_databases(app_configs: object = None, **_: Any) -> list[CheckMessage]:  # noqa: ARG001
    """Everything about `DATABASES` and pools."""
    found: list[CheckMessage] = []
    for alias in connections:
        found += _check_alias(alias, connections.settings[alias])
    found += _check_unknown_pools()
    found += _check_middleware()
    if _green():
        found += _check_driver()
    return found


def _check_alias(alias: str, database: dict[str, Any]) -> Iterator[CheckMessage]:
    engine, options = database["ENGINE"], database.get("OPTIONS", {})
    if complaint := _BLOCKING.get(engine):
        if engine != "mysql.connector.django" or not options.get("use_pure"):
            text = f"database {alias!r}: {complaint[0]} stops every request of a worker during each query"
            yield Warning(text, hint=complaint[1], id="djworker.W101")
        return
    if engine.startswith(GEVENTPOOL):
        return
    if engine in POOLED or engine in ENGINES:
        yield from _check_pooled(alias, database, sqlite=engine.endswith("sqlite3"))


def _check_pooled(alias: str, database: dict[str, Any], *, sqlite: bool) -> Iterator[CheckMessage]:
    try:
        options = resolve(alias, getattr(settings, "DJWORKER", {}), database.get("OPTIONS", {}).get("pool"))
    except ConfigError as error:
        for problem in error.problems:
            yield Error(problem.text, hint=problem.hint or None, id=f"djworker.{problem.id}")
        return
    if sqlite:
        yield from _check_sqlite(alias)
        return
    if database.get("CONN_MAX_AGE") not in (0, None) and database["ENGINE"] in POOLED:
        text = f"database {alias!r}: CONN_MAX_AGE has no effect, connections live in the pool"
        yield Warning(
            text, hint="leave it out; max_lifetime in DJWORKER['POOL'] is the age of connections", id="djworker.W102"
        )
    if database.get("CONN_HEALTH_CHECKS") and database["ENGINE"] in POOLED:
        text = f"database {alias!r}: CONN_HEALTH_CHECKS has no effect, the pool checks connections that were quiet for long"
        yield Warning(text, hint="leave it out; check_after in DJWORKER['POOL'] is that time", id="djworker.W103")
    yield from _check_lease(alias, database, options)


def _check_lease(alias: str, database: dict[str, Any], options: PoolOptions) -> Iterator[CheckMessage]:
    if options.lease == "transaction" and database.get("ATOMIC_REQUESTS") and database["ENGINE"] in POOLED:
        text = f"database {alias!r}: with ATOMIC_REQUESTS each request holds its connection from its first query to its end"
        hint = (
            "mark views that wait for others with transaction.non_atomic_requests, or use atomic() where it is needed"
        )
        yield Warning(text, hint=hint, id="djworker.W104")
    if options.strict and not settings.DEBUG and database["ENGINE"] in POOLED:
        text = f"database {alias!r}: the pool is strict, every statement pays for a reset"
        yield Warning(text, hint="strict is for development and CI", id="djworker.W105")


def _check_sqlite(alias: str) -> Iterator[CheckMessage]:
    workers = _workers()
    if workers > 1:
        text = f"database {alias!r} is SQLite, and {workers} workers write to it in turns, one at a time"
        yield Warning(text, hint="workers = 1, or PostgreSQL or MariaDB", id="djworker.W106")


def _workers() -> int:
    given = getattr(settings, "DJWORKER", {})
    workers = given.get("WORKERS", 1) if isinstance(given, dict) else 1
    return workers if isinstance(workers, int) else 1


def _check_unknown_pools() -> Iterator[CheckMessage]:
    given = getattr(settings, "DJWORKER", {})
    pools = given.get("POOLS") if isinstance(given, dict) else None
    for alias in pools if isinstance(pools, dict) else ():
        if alias not in connections:
            text = f"settings.DJWORKER['POOLS'] speaks of {alias!r}, and DATABASES does not"
            yield Error(text, hint=f"known are {', '.join(connections)}", id="djworker.E024")


def _check_middleware() -> Iterator[CheckMessage]:
    """Middleware that reaches through Django's connection to the library's pins every request."""
    for path in settings.MIDDLEWARE:
        try:
            source = inspect.getsource(import_string(path))
        except (ImportError, OSError, TypeError):
            continue  # what cannot be imported is Django's to complain of
        if "connection.connection" in source:
            text = f"{path} uses connection.connection: every request keeps its database connection to its end"
            yield Warning(text, hint="use connection.cursor()", id="djworker.W107")


def _check_driver() -> Iterator[CheckMessage]:
    engines = {connections.settings[alias]["ENGINE"] for alias in connections}
    if engines & {"djworker.db.backends.postgresql", "djworker.db.backends.postgis"} and importlib.util.find_spec(
        "psycopg"
    ):
        from djworker.db.drivers.psycopg3 import Psycopg3Driver  # noqa: PLC0415 -- optional

        if why := Psycopg3Driver().blocks_hub():
            hint = "import it later, or patch first: `from gevent import monkey; monkey.patch_all()`"
            yield Error(f"psycopg would stop the whole worker during each query: {why}", hint=hint, id="djworker.E025")


@register(TAG, "database")
def check_capacity(app_configs: object = None, databases: Any = None, **_: Any) -> list[CheckMessage]:  # noqa: ARG001
    """Ask each server how many connections it takes. Part of `check --database`, and of the boot."""
    found: list[CheckMessage] = []
    for alias in databases or ():
        engine = connections.settings[alias]["ENGINE"]
        if engine in POOLED or engine in ENGINES:
            found += _capacity(alias)
    return found


def _capacity(alias: str) -> Iterator[CheckMessage]:
    connection = connections[alias]
    if connection.vendor not in ("postgresql", "mysql"):
        return
    question = "SHOW max_connections" if connection.vendor == "postgresql" else "SELECT @@max_connections"
    with connection.cursor() as cursor:
        cursor.execute(question)
        limit = int(cursor.fetchone()[0])
    options = resolve(alias, getattr(settings, "DJWORKER", {}), connection.settings_dict["OPTIONS"].get("pool"))
    wanted = _workers() * options.max_size
    if wanted > limit:
        text = (
            f"database {alias!r}: {_workers()} workers with max_size={options.max_size} may want {wanted} connections,"
            f" the server takes {limit}"
        )
        yield Warning(text, hint="lower max_size, or raise max_connections", id="djworker.W108")

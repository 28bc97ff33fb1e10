"""Which engine serves which alias: the mold changes the names in `DATABASES` before any connection object exists."""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from djworker import log

if TYPE_CHECKING:
    from djworker.db.settings import PoolOptions

logger = logging.getLogger("djworker.db")

ENGINES = {
    "django.db.backends.postgresql": "djworker.db.backends.postgresql",
    "django.contrib.gis.db.backends.postgis": "djworker.db.backends.postgis",
    "django.db.backends.mysql": "djworker.db.backends.mysql",
    "django.db.backends.sqlite3": "djworker.db.backends.sqlite3",
}
POOLED = frozenset(ENGINES.values()) - {"djworker.db.backends.sqlite3"}
GEVENTPOOL = "django_db_geventpool.backends."
MAX_CONNS = 4  # django-db-geventpool's default


class Row(NamedTuple):
    """One alias, for the log."""

    alias: str
    engine: str
    was: str
    driver: str
    lease: str  # "" where there is no pool
    sizes: str


def install(settings: Any) -> list[Row]:
    """Map the engines of `settings.DATABASES` to the green ones, and log what serves each alias.

    Called after gevent patched and before `django.setup()`. Raises ConfigError for pool options that cannot be used.
    """
    from django.db import connections  # noqa: PLC0415 -- after the import path

    made = {connection.alias for connection in connections.all(initialized_only=True)}
    rows = []
    for alias, database in settings.DATABASES.items():
        was = database.get("ENGINE", "")
        if alias in made and was in ENGINES:
            message = f"database {alias!r} was connected to while the settings were loaded: it stays on {was}"
            log.event(logger, logging.WARNING, "engine_kept", message, alias=alias)
        elif was in ENGINES:
            database["ENGINE"] = ENGINES[was]
        rows.append(_row(alias, was, database, getattr(settings, "DJWORKER", {})))
    for row in rows:
        log.event(logger, logging.INFO, "engine", _text(row), **row._asdict())
    return rows


def _row(alias: str, was: str, database: dict[str, Any], djworker: Any) -> Row:
    engine = database.get("ENGINE", "")
    if engine.startswith(GEVENTPOOL):
        from djworker.db import geventpool  # noqa: PLC0415 -- only where it is wanted

        most = database.get("OPTIONS", {}).get("MAX_CONNS", MAX_CONNS)
        return Row(alias, engine, was, geventpool.install(engine), "request", f"0-{most}")
    if engine not in POOLED:
        return Row(alias, engine, was, "sqlite3" if engine in ENGINES.values() else "", "", "")
    options = _options(alias, database, djworker)
    return Row(alias, engine, was, _driver(engine), options.lease, f"{options.min_size}-{options.max_size}")


def _options(alias: str, database: dict[str, Any], djworker: Any) -> PoolOptions:
    from djworker.db.settings import resolve  # noqa: PLC0415

    return resolve(alias, djworker, database.get("OPTIONS", {}).get("pool"))


def _driver(engine: str) -> str:
    if not engine.endswith("mysql"):
        return "psycopg" if _installed("psycopg") else "psycopg2"
    if not _installed("MySQLdb") and _installed("pymysql"):
        import pymysql  # noqa: PLC0415 -- optional

        pymysql.install_as_MySQLdb()
    import MySQLdb  # noqa: PLC0415

    return "pymysql" if MySQLdb.__name__ == "pymysql" else "mysqlclient"


def _installed(module: str) -> bool:
    import sys  # noqa: PLC0415

    return module in sys.modules or importlib.util.find_spec(module) is not None


def _text(row: Row) -> str:
    where = f"database {row.alias!r}: {row.engine or 'no engine'}"
    if row.lease:
        return f"{where}, {row.driver}, {row.lease} lease, {row.sizes} connections per worker"
    if row.driver:
        return f"{where}, not pooled, writers take turns"
    if not row.engine:
        return where
    why = (
        "no engine of Django's that has a pool here; unless it is built on one of ours, nothing bounds its connections"
    )
    return f"{where} is left as it is: {why}"

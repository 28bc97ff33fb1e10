"""Which engine serves which alias. The names in `DATABASES` stay as they are: the engine is exchanged where it is loaded."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from djworker import log
from djworker.conf.engine_names import ENGINES, GEVENTPOOL, MAX_CONNS, NO_DATABASE, POOLED, SQLITE
from djworker.db.backends import wrapping

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from django.conf import LazySettings

    from djworker.conf.pool_table import PoolOptions

logger = logging.getLogger("djworker.db")


class EngineChoice(NamedTuple):
    """One alias, for the log."""

    alias: str
    engine: str  # that serves it
    was: str  # in DATABASES
    driver: str
    lease: str  # "" where there is no pool
    sizes: str
    trouble: str = ""  # why an engine is left as it is, and the way out


class Loader:
    """[mold, worker] `django.db.utils.load_backend`, but that ours are in the place of Django's engines, and above others."""

    def __init__(self, load: Callable[[str], ModuleType]) -> None:
        """load: Django's."""
        self.load = load
        self._known: dict[str, ModuleType] = {}
        #: Our engine by the name in DATABASES: as it is known before an engine is loaded, and after.
        self.serving: dict[str, str] = dict(ENGINES)
        self.waiting: dict[str, list[tuple[str, dict[str, Any], object]]] = {}

    def __call__(self, backend_name: str) -> ModuleType:
        """A module with a `DatabaseWrapper`. The same one each time: Django asks for each connection object."""
        known = self._known.get(backend_name)
        if known is None:
            known, trouble = self._serve(backend_name)
            self._known[backend_name] = known
            for alias, database, djworker in self.waiting.pop(backend_name, ()):
                _tell(
                    _row(alias, backend_name, self.serving.get(backend_name, backend_name), database, djworker, trouble)
                )
        return known

    def _serve(self, name: str) -> tuple[ModuleType, str]:
        if name in ENGINES:
            return self.load(ENGINES[name]), ""
        module = self.load(name)
        cls = getattr(module, "DatabaseWrapper", object)
        if name.startswith(GEVENTPOOL) or not (engine := wrapping.base_of(cls)):
            self._note_ours(name, cls)
            return module, ""
        why = wrapping.objection(cls)
        if not why:
            try:
                cls = wrapping.wrapped(cls, engine)
            except TypeError as error:
                why = str(error)
            else:
                self.serving[name] = engine
                return wrapping.with_class(module, cls), ""
        return module, _way_out(name, cls, engine, why)

    def _note_ours(self, name: str, cls: type) -> None:
        """An engine that has been built on one of ours, as django-tenants' with `ORIGINAL_BACKEND`."""
        for each in cls.__mro__:
            engine = each.__module__.removesuffix(".base")
            if engine in ENGINES.values():
                self.serving[name] = engine
                return


def serving(engine: str) -> str:
    """Our engine that serves a name in `DATABASES`, or that name: nothing is exchanged outside of `runworkers`."""
    from django.db import utils

    loader = utils.load_backend
    return loader.serving.get(engine, engine) if isinstance(loader, Loader) else engine


def install(settings: LazySettings) -> list[EngineChoice]:
    """Exchange the engines of `settings.DATABASES` for green ones where they are loaded, and log what serves each alias.

    Called after gevent patched and before `django.setup()`. An engine of another package is logged when it is loaded.

    Raises:
        ConfigError: pool options that cannot be used.
    """
    from django.db import utils

    given = getattr(settings, "DJWORKER", {})
    loader = Loader(utils.load_backend)
    rows = []
    for alias, database in settings.DATABASES.items():
        name = database.get("ENGINE", "")
        if not name or name in ENGINES or name in ENGINES.values() or name.startswith(GEVENTPOOL):
            rows.append(_row(alias, name, ENGINES.get(name, name), database, given))
        elif name != NO_DATABASE:
            loader.waiting.setdefault(name, []).append((alias, database, given))
    utils.load_backend = loader
    _begin_anew()
    for row in rows:
        _tell(row)
    return rows


def load_all() -> None:
    """Load the engine of each alias, so that all are known, and shared by all workers."""
    from django.core.exceptions import ImproperlyConfigured
    from django.db import connections

    for alias in connections:
        with contextlib.suppress(ImproperlyConfigured):  # an alias that nothing uses may lack its library
            connections[alias]


def _begin_anew() -> None:
    """Connection objects that were made while the settings were loaded are Django's: the next ones are of our engines."""
    from django.db import connections

    from djworker.db import unheld

    held = unheld.close(unheld.here())
    for connection in connections.all(initialized_only=True):
        if connection in held:
            message = (
                f"database {connection.alias!r} was left in atomic() while the settings were loaded: it stays as it is"
            )
            log.event(logger, logging.WARNING, "engine_kept", message, alias=connection.alias)
        else:
            del connections[connection.alias]


def _row(
    alias: str, was: str, engine: str, database: dict[str, Any], djworker: object, trouble: str = ""
) -> EngineChoice:
    if engine.startswith(GEVENTPOOL):
        from djworker.db import geventpool

        most = database.get("OPTIONS", {}).get("MAX_CONNS", MAX_CONNS)
        return EngineChoice(alias, engine, was, geventpool.install(engine), "request", f"0-{most}")
    if engine not in POOLED:
        return EngineChoice(alias, engine, was, "sqlite3" if engine == SQLITE else "", "", "", trouble)
    options = _options(alias, database, djworker)
    return EngineChoice(alias, engine, was, _driver(engine), options.lease, f"{options.min_size}-{options.max_size}")


def _options(alias: str, database: dict[str, Any], djworker: object) -> PoolOptions:
    from djworker.conf.pool_resolve import for_alias

    return for_alias(alias, djworker, database.get("OPTIONS", {}).get("pool"))


def _driver(engine: str) -> str:
    if not engine.endswith("mysql"):
        return "psycopg" if _installed("psycopg") else "psycopg2"
    if not _installed("MySQLdb") and _installed("pymysql"):
        import pymysql

        pymysql.install_as_MySQLdb()
    import MySQLdb

    return "pymysql" if MySQLdb.__name__ == "pymysql" else "mysqlclient"


def _installed(module: str) -> bool:
    return module in sys.modules or importlib.util.find_spec(module) is not None


def _way_out(name: str, cls: type, engine: str, why: str) -> str:
    """For an engine that is built on Django's and cannot be put on a lease."""
    library = getattr(getattr(cls, "Database", None), "__name__", "")
    effect = "no pool of ours limits its connections"
    if library == "MySQLdb":
        effect += ", and each query stops all requests of a worker"
    elif engine == SQLITE:
        effect = "a writer that waits for another stops all requests of a worker"
    stock = next(key for key, value in ENGINES.items() if value == engine)
    return (
        f"{why}, so that {name} cannot be pooled: {effect}; write ENGINE = {stock!r}, or build that engine on {engine}"
    )


def _tell(row: EngineChoice) -> None:
    level = logging.WARNING if row.trouble else logging.INFO
    log.event(logger, level, "engine", _text(row), **row._asdict())


def _text(row: EngineChoice) -> str:
    served = f" (on {row.engine})" if row.was not in (row.engine, *ENGINES) else ""
    where = f"database {row.alias!r}: {row.was if served else row.engine or 'no engine'}{served}"
    if row.trouble:
        return f"{where} is left as it is: {row.trouble}"
    if row.lease:
        return f"{where}, {row.driver}, {row.lease} lease, {row.sizes} connections per worker"
    if row.driver:
        return f"{where}, not pooled, writers take turns"
    if not row.engine:
        return where
    return f"{where} is left as it is: it is built on no engine that has a pool here"

"""The options of pools, declared once.

Later layers win: `DJWORKER["POOL"]`, Django's own `OPTIONS["pool"]` of the alias, `DJWORKER["POOLS"][alias]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from djworker.conf.problems import ConfigError, Problem
from djworker.conf.resolve import did_you_mean

# psycopg_pool's options that a green pool has no use for, and what does their work here.
_PSYCOPG_POOL = {
    "check": "check_after is the quiet time after which a connection is checked before it is used",
    "close_returns": "a connection goes back when the statement, the transaction or the request ends",
    "configure": "a receiver of connection_created (django.db.backends.signals) is called once for each real connection",
    "connection_class": "the driver's own class waits in the hub; cursor_factory in OPTIONS is kept",
    "conninfo": "the parameters are those of DATABASES",
    "kwargs": "the parameters are those of DATABASES",
    "name": "the pool is called as its alias",
    "num_workers": "each connection is opened by a greenlet of its own",
    "open": "the pool opens with its first connection",
    "reconnect_failed": "the event pool_outage says it in the log",
    "reconnect_timeout": "single attempts go on until the server is back",
    "reset": "a session on which statements have left something is wiped when it comes back",
}


#: Engines whose `OPTIONS["pool"]` is read here. That of Oracle's, for one, is oracledb's.
_POOLED = (
    "django.db.backends.postgresql",
    "django.contrib.gis.db.backends.postgis",
    "django.db.backends.mysql",
    "djworker.db.backends.",
)


def _option(default: Any, kind: type, text: str, *, least: float = 0.0) -> Any:
    return field(default=default, metadata={"kind": kind, "help": text, "least": least})


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """[worker] How the connections of one alias are pooled and leased. Times in seconds; sizes per worker process."""

    lease: str = field(
        default="transaction",
        metadata={
            "kind": str,
            "choices": ("transaction", "request"),
            "help": "For how long a request holds a connection: for a statement or transaction, or to its end.",
        },
    )
    min_size: int = _option(0, int, "Connections that are kept open though idle.")
    max_size: int = _option(10, int, "Connections of this worker, at most.", least=1)
    timeout: float = _option(30.0, float, "Longest wait for a connection.")
    max_waiting: int = _option(
        0, int, "Requests that may wait for a connection; above, they are refused. 0: any number."
    )
    max_lifetime: float = _option(
        3600.0, float, "Age at which a connection is replaced, minus up to a tenth. 0: never."
    )
    max_idle: float = _option(600.0, float, "Time after which an idle connection above min_size is closed. 0: never.")
    check_after: float = _option(30.0, float, "Quiet time after which a connection is checked before it is used.")
    slow_acquire: float = _option(1.0, float, "A longer wait for a connection is logged. 0: never.")
    long_hold: float = _option(60.0, float, "A connection that is held for longer is logged, with the stack. 0: never.")
    idle_in_transaction: float = _option(
        10.0, float, "A transaction in which no query runs for longer is logged, with the stack. 0: never."
    )
    strict: bool = field(
        default=False,
        metadata={
            "kind": bool,
            "help": "For development and CI: another connection for every statement, wiped on each return, so that hidden"
            " dependence on a session fails here and not in production.",
        },
    )
    pin_sql: tuple[str, ...] = field(
        default=(),
        metadata={
            "kind": tuple,
            "help": "Regular expressions; a statement in which one is found keeps its connection to the end of the request.",
        },
    )

    def for_pool(self) -> dict[str, Any]:
        """What `Pool` takes."""
        names = ("min_size", "max_size", "timeout", "max_waiting", "max_lifetime", "max_idle", "check_after")
        return {name: getattr(self, name) for name in names}


_FIELDS = {item.name: item for item in fields(PoolOptions)}


def resolve(alias: str, djworker: object, pool_option: object) -> PoolOptions:
    """The options of one alias. djworker: `settings.DJWORKER`; pool_option: `OPTIONS["pool"]` of the alias.

    Raises ConfigError that lists everything that is wrong.
    """
    problems: list[Problem] = []
    given: dict[str, Any] = {}
    for where, values in _layers(alias, djworker, pool_option):
        if not isinstance(values, Mapping):
            problems.append(Problem("E020", f"{where} is no dict", "write {'max_size': 10}"))
            continue
        given |= _read(where, values, problems)
    if given.get("min_size", 0) > given.get("max_size", PoolOptions.__dataclass_fields__["max_size"].default):
        text = f"the pool of {alias!r} has min_size={given['min_size']} above max_size"
        problems.append(Problem("E023", text, "raise max_size or lower min_size"))
    if any(problem.level == "error" for problem in problems):
        raise ConfigError(problems)
    return PoolOptions(**given)


def problems_of(djworker: object, databases: object) -> list[Problem]:
    """Return everything that is wrong with the pools, each thing once, without loading an engine.

    djworker: `settings.DJWORKER`; databases: `settings.DATABASES`.
    """
    aliases: Mapping[Any, Any] = databases if isinstance(databases, Mapping) else {}
    found: dict[str, Problem] = {}
    for alias, database in aliases.items():
        options = database.get("OPTIONS") if isinstance(database, Mapping) else None
        pool = options.get("pool") if isinstance(options, Mapping) and _is_ours(database) else None
        try:
            resolve(str(alias), djworker, pool)
        except ConfigError as error:
            found.update({str(problem): problem for problem in error.problems})
    found.update({str(problem): problem for problem in _strangers(djworker, [*map(str, aliases), *_IMPLIED])})
    return list(found.values())


def _is_ours(database: Mapping[Any, Any]) -> bool:
    """Whether `OPTIONS["pool"]` is Django's: other engines may mean something else by it."""
    return str(database.get("ENGINE", "")).startswith(_POOLED)


#: Django has this alias whatever `DATABASES` says.
_IMPLIED = ("default",)


def _strangers(djworker: object, aliases: list[str]) -> Iterator[Problem]:
    pools = djworker.get("POOLS") if isinstance(djworker, Mapping) else None
    for alias in pools if isinstance(pools, Mapping) else ():
        if alias not in aliases:
            hint = did_you_mean(str(alias), aliases) or f"known are {', '.join(dict.fromkeys(aliases))}"
            yield Problem("E024", f"settings.DJWORKER['POOLS'] speaks of {alias!r}, and DATABASES does not", hint)


def _layers(alias: str, djworker: object, pool_option: object) -> Iterator[tuple[str, object]]:
    ours: Mapping[str, Any] = djworker if isinstance(djworker, Mapping) else {}
    if ours.get("POOL") is not None:
        yield "settings.DJWORKER['POOL']", ours["POOL"]
    if pool_option and pool_option is not True:
        yield f"settings.DATABASES[{alias!r}]['OPTIONS']['pool']", _translated(pool_option)
    pools = ours.get("POOLS")
    if pools is None:
        return
    if not isinstance(pools, Mapping):
        yield "settings.DJWORKER['POOLS']", pools
    elif alias in pools:
        yield f"settings.DJWORKER['POOLS'][{alias!r}]", pools[alias]


def unused(pool_option: object) -> Iterator[tuple[str, str]]:
    """The keys of `OPTIONS["pool"]` that have no effect, each with what does its work."""
    for key in pool_option if isinstance(pool_option, Mapping) else ():
        if key in _PSYCOPG_POOL:
            yield key, _PSYCOPG_POOL[key]


def _translated(pool_option: object) -> object:
    """Django's option in our words: psycopg_pool without a max_size has min_size connections, always."""
    if not isinstance(pool_option, Mapping):
        return pool_option
    known = {key: value for key, value in pool_option.items() if key not in _PSYCOPG_POOL}
    if known.get("max_size") is None and known.get("min_size"):
        known["max_size"] = known["min_size"]
    return known


def _read(where: str, values: Mapping[Any, Any], problems: list[Problem]) -> dict[str, Any]:
    found = {}
    for key, value in values.items():
        name = str(key).lower()
        if name not in _FIELDS:
            hint = _PSYCOPG_POOL.get(name) or did_you_mean(name, list(_FIELDS)) or f"known are {', '.join(_FIELDS)}"
            problems.append(Problem("E021", f"{where} has an unknown key {key!r}", hint))
        elif value is None:  # psycopg_pool's way to say "the default", or "as min_size"
            continue
        elif complaint := _complaint(name, value):
            problems.append(Problem("E022", f"{where}[{key!r}] = {value!r}: {complaint[0]}", complaint[1]))
        else:
            found[name] = _value(name, value)
    return found


def _complaint(name: str, value: Any) -> tuple[str, str] | None:
    metadata = _FIELDS[name].metadata
    kind = metadata["kind"]
    if kind is str:
        return None if value in metadata["choices"] else ("not known", f"one of {', '.join(metadata['choices'])}")
    if kind is bool:
        return None if isinstance(value, bool) else ("neither True nor False", "write True or False")
    if kind is tuple:
        return _bad_pattern(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or (kind is int and not isinstance(value, int)):
        return f"no {'whole ' if kind is int else ''}number", f"for example {_FIELDS[name].default}"
    if not value >= metadata["least"]:
        return f"below {metadata['least']:g}", f"at least {metadata['least']:g}; the default is {_FIELDS[name].default}"
    return None


def _bad_pattern(value: Any) -> tuple[str, str] | None:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        return "no list", "write ['my_function']"
    for pattern in value:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            return f"{pattern!r} is no regular expression ({error})", "see the documentation of Python's re"
    return None


def _value(name: str, value: Any) -> Any:
    kind = _FIELDS[name].metadata["kind"]
    return tuple(value) if kind is tuple else kind(value)

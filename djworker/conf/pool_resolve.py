"""From settings, environment and command line to the options of each pool, or to the list of all that is wrong.

Three layers are for all aliases, and the later one wins: `DJWORKER["POOL"]`, the environment, the command line. What the
settings say of one alias wins over all three, because it is about that database and not about any: `OPTIONS["pool"]`, as
Django has it, then `DJWORKER["POOLS"][alias]`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from djworker.conf import engine_names
from djworker.conf.pool_table import POOL_OPTIONS, PoolOptions
from djworker.conf.problems import ConfigError, Problem, UnreadableError
from djworker.conf.resolve import DEFAULT, Given, ResolvedPool, given_outside
from djworker.conf.slips import did_you_mean

__all__ = ["expect", "for_alias", "resolve_pool", "resolve_pools", "unused"]

#: psycopg_pool's options that a green pool has no use for, and what does their work here.
_PSYCOPG_POOL: Final[Mapping[str, str]] = {
    "check": "check_after is the quiet time after which a connection is checked before it is used",
    "close_returns": "a connection goes back when the statement, the transaction or the request ends",
    "configure": "a receiver of connection_created (django.db.backends.signals) is called once for each real connection",
    "connection_class": "the driver's own class waits in the hub; cursor_factory in OPTIONS is kept",
    "conninfo": "the parameters are those of DATABASES",
    "kwargs": "the parameters are those of DATABASES",
    "name": "the pool is called as its alias",
    "num_workers": "each connection is opened by a greenlet of its own",
    "open": "the pool opens with its first connection, or with the worker if it has a min_size",
    "reconnect_failed": "the event pool_outage says it in the log",
    "reconnect_timeout": "single attempts go on until the server is back",
    "reset": "a session on which statements have left something is wiped when it comes back",
}
_SIZES: Final = tuple(POOL_OPTIONS[name].title for name in ("min_size", "max_size"))
#: Django has this alias whatever `DATABASES` says.
_IMPLIED: Final = ("default",)


@dataclass(slots=True)
class _Started:
    """What this process was started with. Outside of `runworkers` there is no command line."""

    cli: Mapping[str, Any]
    environ: Mapping[str, str]


_started = _Started({}, os.environ)


def expect(cli: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """[mold] Have all pools of this process, and of its children, know what the server was started with.

    Args:
        cli: option name to raw value, as `Launch` carries it.
        environ: the environment, as it is when the other options are resolved.
    """
    _started.cli, _started.environ = dict(cli), dict(environ)


def for_alias(alias: str, djworker: object, pool_option: object) -> PoolOptions:
    """Return the options of one alias in this process.

    Args:
        alias: of the database.
        djworker: `settings.DJWORKER`.
        pool_option: `OPTIONS["pool"]` of the alias.

    Raises:
        ConfigError: lists everything that is wrong.
    """
    return resolve_pool(alias, djworker, pool_option, _started.cli, _started.environ).options


def resolve_pool(
    alias: str, djworker: object, pool_option: object, cli: Mapping[str, Any], environ: Mapping[str, str]
) -> ResolvedPool:
    """Decide every option of one alias's pool. The arguments are those of `for_alias` and `expect`.

    Raises:
        ConfigError: lists everything that is wrong.
    """
    problems: list[Problem] = []
    given: dict[str, Given] = {}
    values: dict[str, Any] = {}
    for layer in _layers(alias, djworker, pool_option, cli, environ, problems):
        given |= layer
        values |= _read(layer, problems)  # a mistake is told of where a later layer hides it, too
    options = PoolOptions(**values)
    sizes_are_read = not any(problem.setting in _SIZES for problem in problems)
    if sizes_are_read and options.min_size > options.max_size:
        problems.append(_too_many_kept(alias, options, given))
    if problems:
        raise ConfigError(problems)
    return ResolvedPool(options, {name: given[name].source if name in given else DEFAULT for name in POOL_OPTIONS})


def resolve_pools(
    djworker: object, databases: object, cli: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[dict[str, ResolvedPool], list[Problem]]:
    """Decide the pools of all aliases, without loading an engine.

    Args:
        djworker: `settings.DJWORKER`.
        databases: `settings.DATABASES`.
        cli: option name to raw value, as `cli.overrides` returns.
        environ: the process's environment.

    Returns:
        The pools that can be used, by alias, and everything that is wrong, each thing once. An engine of another package has
        a pool here, though only its loading tells whether that is so.
    """
    aliases: Mapping[Any, Any] = databases if isinstance(databases, Mapping) else {}
    pools: dict[str, ResolvedPool] = {}
    problems: list[Problem] = []
    for alias, database in aliases.items():
        try:
            pool = _pool_of(str(alias), djworker, database, cli, environ)
        except ConfigError as error:
            problems += error.problems
        else:
            if engine_names.may_be_pooled(_engine(database)):
                pools[str(alias)] = pool
    problems += _strangers(djworker, [*map(str, aliases), *_IMPLIED])
    if not problems:
        problems += _without_effect(pools, map(_engine, aliases.values()), cli, environ)
    return pools, list({str(problem): problem for problem in problems}.values())


def _pool_of(
    alias: str, djworker: object, database: object, cli: Mapping[str, Any], environ: Mapping[str, str]
) -> ResolvedPool:
    """Decide one. `OPTIONS["pool"]` of an engine of another package may mean something else: then it counts for nothing."""
    options = database.get("OPTIONS") if isinstance(database, Mapping) else None
    pool = options.get("pool") if isinstance(options, Mapping) else None
    if pool and not engine_names.is_pooled(_engine(database)):
        with contextlib.suppress(ConfigError):
            return resolve_pool(alias, djworker, pool, cli, environ)
        pool = None
    return resolve_pool(alias, djworker, pool, cli, environ)


def _engine(database: object) -> str:
    return str(database.get("ENGINE", "")) if isinstance(database, Mapping) else ""


def unused(pool_option: object) -> Iterator[tuple[str, str]]:
    """Return the keys of `OPTIONS["pool"]` that have no effect, each with what does its work."""
    for key in pool_option if isinstance(pool_option, Mapping) else ():
        if key in _PSYCOPG_POOL:
            yield key, _PSYCOPG_POOL[key]


# -- the layers of one alias, from the weakest to the strongest


def _layers(
    alias: str,
    djworker: object,
    pool_option: object,
    cli: Mapping[str, Any],
    environ: Mapping[str, str],
    problems: list[Problem],
) -> Iterator[dict[str, Given]]:
    """What each of them gives: option name to raw value. Keys that no option has are problems."""
    ours: Mapping[str, Any] = djworker if isinstance(djworker, Mapping) else {}
    yield _from_dict("settings.DJWORKER['POOL']", ours.get("POOL"), problems)
    yield _from_outside(cli, environ)
    if pool_option is not True:
        where = f"settings.DATABASES[{alias!r}]['OPTIONS']['pool']"
        yield _as_django_means(_from_dict(where, _translated(pool_option) or None, problems))
    pools = ours.get("POOLS")
    if isinstance(pools, Mapping):
        yield _from_dict(f"settings.DJWORKER['POOLS'][{alias!r}]", pools.get(alias, {}), problems)
    else:
        _from_dict("settings.DJWORKER['POOLS']", pools, problems)


def _from_outside(cli: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Given]:
    """The command line before the environment."""
    found = {name: next(given_outside(option, cli, environ), None) for name, option in POOL_OPTIONS.items()}
    return {name: given for name, given in found.items() if given is not None}


def _from_dict(where: str, values: object, problems: list[Problem]) -> dict[str, Given]:
    found: dict[str, Given] = {}
    if values is None:
        return found
    if not isinstance(values, Mapping):
        problems.append(Problem("E020", f"{where} is no dict", "write {'max_size': 10}"))
        return found
    for key, value in values.items():
        name = str(key).lower()
        if name not in POOL_OPTIONS:
            hint = (
                _PSYCOPG_POOL.get(name)
                or did_you_mean(name, list(POOL_OPTIONS))
                or f"known are {', '.join(POOL_OPTIONS)}"
            )
            problems.append(Problem("E021", f"{where} has an unknown key {key!r}", hint))
        elif value is not None:  # psycopg_pool's way to say "the default", or "as min_size"
            found[name] = Given(value, f"{where}[{key!r}]")
    return found


def _translated(pool_option: object) -> object:
    """Django's option without what only psycopg_pool has a use for."""
    if not isinstance(pool_option, Mapping):
        return pool_option
    return {key: value for key, value in pool_option.items() if key not in _PSYCOPG_POOL}


def _as_django_means(given: dict[str, Given]) -> dict[str, Given]:
    """psycopg_pool without a max_size has min_size connections, always."""
    least = given.get("min_size")
    if least is None or "max_size" in given or str(least.raw).strip() == "0":
        return given
    return {**given, "max_size": least}


# -- what is wrong


def _read(given: Mapping[str, Given], problems: list[Problem]) -> dict[str, Any]:
    """Read the values that can be read; add a problem for each of the others."""
    values: dict[str, Any] = {}
    for name, found in given.items():
        option = POOL_OPTIONS[name]
        try:
            values[name] = option.read(found.raw)
        except UnreadableError as error:
            problems.append(Problem("E022", error.message, error.hint, option.title, found.text, found.source))
    return values


def _too_many_kept(alias: str, options: PoolOptions, given: Mapping[str, Given]) -> Problem:
    sizes = {name: getattr(options, name) for name in ("min_size", "max_size")}
    least, most = (f"{name}={size} ({_source(name, given)})" for name, size in sizes.items())
    return Problem("E023", f"the pool of {alias!r} has {least} above {most}", "raise max_size or lower min_size")


def _source(name: str, given: Mapping[str, Given]) -> str:
    return f"from {given[name].source}" if name in given else DEFAULT


def _strangers(djworker: object, aliases: list[str]) -> Iterator[Problem]:
    pools = djworker.get("POOLS") if isinstance(djworker, Mapping) else None
    for alias in pools if isinstance(pools, Mapping) else ():
        if alias not in aliases:
            hint = did_you_mean(str(alias), aliases) or f"known are {', '.join(dict.fromkeys(aliases))}"
            yield Problem("E024", f"settings.DJWORKER['POOLS'] names {alias!r}, and DATABASES has no such alias", hint)


def _without_effect(
    pools: Mapping[str, ResolvedPool], engines: Iterable[str], cli: Mapping[str, Any], environ: Mapping[str, str]
) -> Iterator[Problem]:
    """What flags and variables ask for, and no pool has: each alias has a value of its own."""
    if any(engine.startswith(engine_names.GEVENTPOOL) for engine in engines):
        return  # these have pools too, with options that this table does not know
    for name, given in _from_outside(cli, environ).items():
        if not any(pool.sources[name] == given.source for pool in pools.values()):
            option = POOL_OPTIONS[name]
            why = "the settings give each database a value of its own" if pools else "no database here has a pool"
            message, hint = f"has no effect: {why}", "change it there, or leave this out"
            yield Problem("W005", message, hint, option.title, given.text, given.source, level="warning")

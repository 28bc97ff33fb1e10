"""From command line, environment and settings to one configuration, or to the list of all that is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any, Final

from djworker import accounts
from djworker.accounts import Account
from djworker.conf import rules, variables
from djworker.conf.address import Address
from djworker.conf.option import VARIABLE_PREFIX, Option
from djworker.conf.pool_table import POOL_OPTIONS, PoolOptions
from djworker.conf.problems import BoundsError, ConfigError, Problem, UnreadableError
from djworker.conf.slips import ALIKE, did_you_mean
from djworker.conf.table import OPTIONS, Config

FIRST_PASSED_FD: Final = 3  # sd_listen_fds(3), SD_LISTEN_FDS_START
DEFAULT: Final = "default"
DATABASE_KEYS: Final = ("POOL", "POOLS")  # settings.DJWORKER has them too; djworker.conf.pool_resolve reads them
SYSTEMD: Final = "systemd (LISTEN_FDS)"
#: Every option there is, by its name on the command line.
EVERY: Final[Mapping[str, Option]] = {option.dest: option for option in (*OPTIONS.values(), *POOL_OPTIONS.values())}
#: Kubernetes sets such variables in each container, for services called "djworker" or "djworker-something".
_SERVICE_LINK: Final = re.compile(
    r"DJWORKER(?:_\w+)??_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)
#: What it gives to the one that has the name of an option of many programs.
_SERVICE_ADDRESS: Final = re.compile(r"(?:tcp|udp|sctp)://.*")
#: Names that are none, and are no slips of the pen either.
_MEANT: Final[Mapping[str, str]] = {
    "POOL": "each option of the pool has its own, such as DJWORKER_POOL_MAX_SIZE",
    "POOLS": "each option of the pool has its own, such as DJWORKER_POOL_MAX_SIZE, and databases have theirs in the settings",
    "PORT": "DJWORKER_BIND names HOST:PORT, and PORT a port on every interface",
    "HOST": "DJWORKER_BIND names HOST:PORT",
}


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was given, and where."""

    raw: object
    source: str

    @property
    def text(self) -> str:
        """The value as it is shown in messages."""
        return ",".join(map(str, self.raw)) if isinstance(self.raw, list | tuple) else str(self.raw)


@dataclass(frozen=True, slots=True)
class ResolvedPool:
    """The options of one alias's pool, and where each of them came from."""

    options: PoolOptions
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Resolved:
    """A configuration, where each of its values came from, and what is odd but usable. pools: by alias."""

    config: Config
    sources: Mapping[str, str]
    warnings: tuple[Problem, ...] = ()
    pools: Mapping[str, ResolvedPool] = field(default_factory=dict)


def resolve(
    cli: Mapping[str, Any],
    environ: Mapping[str, str],
    settings: object,
    default_proc_name: str,
    *,
    inherited: Sequence[str] = (),
    machine: bool = False,
    preflight: Callable[[Sequence[Address], Account | None], Sequence[str]] | None = None,
) -> Resolved:
    """Decide every option. Raises ConfigError with every problem found.

    cli: option name to raw value, as ``cli.overrides`` returns. environ: the process's environment; empty variables
    count as unset. settings: ``settings.DJWORKER``; None as a value counts as unset. inherited: addresses of passed
    sockets, see ``passed_sockets``. machine: also ask whether this machine has the users, files and descriptors named.
    preflight: tries to listen at the addresses, with the rights of that account where it is not None, and returns a sentence
    for each that cannot be had.
    """
    problems: list[Problem] = []
    if not isinstance(settings, Mapping):
        problems.append(Problem("E010", "settings.DJWORKER is no dict", "write DJWORKER = {'WORKERS': 4}"))
        settings = {}
    problems += _unknown(cli, environ, settings)
    given = {option.name: next(_candidates(option, cli, environ, settings, inherited)) for option in OPTIONS.values()}
    values = _read(given, problems)
    config = Config(**values)
    if config.proc_name is None:
        # The name of a folder, which may have any bytes in it.
        shown = "".join(letter if letter.isprintable() else "?" for letter in default_proc_name)
        config = replace(config, proc_name=shown)
    problems += _ruled(config, rules.PURE + (rules.MACHINE if machine else ()), values.keys(), given)
    problems += _ignored_sockets(config, inherited)
    if preflight is not None and values.keys() >= {"bind", "status_bind", "user", "group"}:
        problems += _not_to_be_had(config, given["status_bind"], preflight)
    if any(problem.level == "error" for problem in problems):
        raise ConfigError(problems)
    return Resolved(config, {name: found.source for name, found in given.items()}, tuple(problems))


def _not_to_be_had(
    config: Config, status: Given, preflight: Callable[[Sequence[Address], Account | None], Sequence[str]]
) -> Iterator[Problem]:
    """The addresses at which the server cannot listen now."""
    account = accounts.service_account(config.user, config.group)
    yield from (Problem("E011", text) for text in preflight(list(map(Address.parse, config.bind)), account))
    others = [Address.parse(text) for text in config.status_bind if text not in config.bind]  # else it is told already
    for text in preflight(others, None) if others else ():
        yield Problem("E011", text, "", "status_bind", status.text, status.source)


def together(others: Sequence[Problem], decide: Callable[[], Resolved]) -> Resolved:
    """Return what *decide* resolves, and tell of *others*, found elsewhere, together with what it finds.

    Raises:
        ConfigError: something of all this is an error.
    """
    try:
        resolved = decide()
    except ConfigError as error:
        raise ConfigError([*others, *error.problems]) from None
    if any(problem.level == "error" for problem in others):
        raise ConfigError([*others, *resolved.warnings])
    return replace(resolved, warnings=(*others, *resolved.warnings))


def _read(given: Mapping[str, Given], problems: list[Problem]) -> dict[str, Any]:
    """Read the values that can be read; add a problem for each of the others."""
    values: dict[str, Any] = {}
    for name, found in given.items():
        try:
            values[name] = found.raw if found.source == DEFAULT else OPTIONS[name].read(found.raw)
        except UnreadableError as error:
            number = "E003" if isinstance(error, BoundsError) else "E002"
            problems.append(Problem(number, error.message, error.hint, name, found.text, found.source))
    return values


def passed_sockets(environ: Mapping[str, str], pid: int) -> tuple[str, ...]:
    """Return the addresses of the sockets that systemd passed to this process (sd_listen_fds(3)), as ``fd://N``.

    pid: this process's id; variables meant for another process, a parent perhaps, count for nothing.
    """
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(pid) or not re.fullmatch("[0-9]{1,4}", count):
        return ()
    return tuple(f"fd://{fd}" for fd in range(FIRST_PASSED_FD, FIRST_PASSED_FD + int(count)))


def foreign_sockets(environ: Mapping[str, str], pid: int) -> tuple[Problem, ...]:
    """Tell of sockets that systemd passed to another process, which has started this one: no process accepts on them."""
    count, other = environ.get("LISTEN_FDS", ""), environ.get("LISTEN_PID", "")
    if not count or not other or other == str(pid):
        return ()
    message = f"LISTEN_FDS={count} is meant for process {other}, and this is process {pid}: its sockets are not used"
    return (Problem("W010", message, "have the unit start this program itself, or with exec", level="warning"),)


def _candidates(
    option: Option,
    cli: Mapping[str, Any],
    environ: Mapping[str, str],
    settings: Mapping[str, Any],
    inherited: Sequence[str],
) -> Iterator[Given]:
    """Every value given for an option with its origin, in the order of precedence; the default comes last."""
    yield from given_outside(option, cli, environ, inherited)
    if settings.get(option.key) is not None:
        yield Given(settings[option.key], f"settings.DJWORKER[{option.key!r}]")
    yield Given(option.make_default(), DEFAULT)


def given_outside(
    option: Option, cli: Mapping[str, Any], environ: Mapping[str, str], inherited: Sequence[str] = ()
) -> Iterator[Given]:
    """Return the values that the start gives an option, outside of the settings, the strongest first.

    The arguments are those of ``resolve``.
    """
    if cli.get(option.dest) is not None:
        yield Given(cli[option.dest], f"command line {option.flag}")
    if option.dest == "bind" and inherited:
        yield Given(list(inherited), SYSTEMD)
    for variable in (option.variable, *option.spec.environment):
        if environ.get(variable):
            yield Given(_in_our_words(variable, environ[variable]), f"environment {variable}")
    if option.dest == "bind" and environ.get("PORT"):
        yield Given(f"0.0.0.0:{environ['PORT']}", "environment PORT")


def _in_our_words(variable: str, text: str) -> str:
    """As gunicorn believes every unix socket, whatever this variable of its own says, have it so."""
    return f"{text},unix" if variable == "FORWARDED_ALLOW_IPS" else text


def _unknown(cli: Mapping[str, Any], environ: Mapping[str, str], settings: Mapping[Any, Any]) -> Iterator[Problem]:
    for name in cli.keys() - EVERY.keys():
        flag = "--" + str(name).replace("_", "-")
        yield unknown_flag(flag)
    keys = [option.key for option in OPTIONS.values()] + list(DATABASE_KEYS)
    for key in settings:
        if key not in keys:
            hint = _as_dict(str(key).lower()) or _as_dict(f"pool_{key}".lower()) or did_you_mean(str(key).upper(), keys)
            yield Problem("E001", f"settings.DJWORKER has an unknown key {key!r}", hint)
    yield from _unknown_variables(environ)


def _as_dict(name: str) -> str:
    """How a pool's option is written in the settings, where it is written as in the environment."""
    option = EVERY.get(name)
    return f"write {option.section.upper()!r}: {{{option.name!r}: ...}}" if option and option.section else ""


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[Problem]:
    """A warning for each that has our prefix and no option: an environment is shared with others, so it is no error."""
    known = {option.variable: option for option in EVERY.values()}
    names = [variable.removeprefix(VARIABLE_PREFIX) for variable in known]
    for name, value in sorted(environ.items()):
        if (
            not name.startswith(VARIABLE_PREFIX)
            or name in known.keys() | variables.OWN
            or _is_service_link(name, value)
        ):
            continue
        word = name.removeprefix(VARIABLE_PREFIX)
        meant = _MEANT.get(word) or did_you_mean(word, names, ALIKE).replace("mean ", f"mean {VARIABLE_PREFIX}")
        hint = meant or "no option has that name; --help lists them all"
        yield Problem("W003", f"the environment has an unknown variable {name}", hint, level="warning")


def _is_service_link(name: str, value: str) -> bool:
    return bool(_SERVICE_LINK.fullmatch(name)) and (
        not name.endswith("_PORT") or "SERVICE" in name or bool(_SERVICE_ADDRESS.fullmatch(value))
    )


def unknown_flag(flag: str) -> Problem:
    """Describe an option of the command line that does not exist."""
    flags = [name for option in EVERY.values() for name in option.flags]
    return Problem("E001", f"unknown option {flag}", did_you_mean(flag, flags))


def _ruled(
    config: Config, asked: Sequence[rules.Rule], readable: AbstractSet[str], given: Mapping[str, Given]
) -> Iterator[Problem]:
    for rule in asked:
        if rule.reads <= readable:
            for found in rule.find(config):
                origin = given[found.option]
                yield Problem(
                    found.id, found.message, found.hint, found.option, origin.text, origin.source, found.level
                )


def _ignored_sockets(config: Config, inherited: Sequence[str]) -> Iterator[Problem]:
    ignored = [address for address in inherited if address not in config.bind]
    if ignored:
        message = f"systemd passed {', '.join(ignored)}, which bind does not name, so their clients would wait for ever"
        yield Problem("W004", message, "leave --bind out, or the socket unit", level="warning")

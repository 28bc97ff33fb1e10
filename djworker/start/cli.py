"""The command line, made from the option table, and the table of values that ``--print-config`` shows."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from djworker.conf.kinds import ANNOUNCED, FLAG
from djworker.conf.option import Option
from djworker.conf.pool_table import POOL_OPTIONS, PoolOptions
from djworker.conf.problems import Problem
from djworker.conf.resolve import EVERY, Resolved
from djworker.conf.table import OPTIONS, Config
from djworker.start import gunicorn

POSITIONAL: Final = "addrport"
#: Where gunicorn's options, which are not ours, are noted.
OTHERS: Final = "gunicorn"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every option, by group, and the address as a positional argument.

    Values stay as typed: ``resolve`` reads them together with the other layers, so that it can tell all problems.
    """
    parser.add_argument(POSITIONAL, nargs="?", metavar="ADDR:PORT", help="Where to listen, as with --bind.")
    start = parser.add_argument_group("Start")
    start.add_argument("--chdir", metavar="DIR", help="Enter this folder first; each reload enters it anew.")
    start.add_argument(
        *("-e", "--env"),
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="Set a variable of the environment; repeatable.",
    )
    groups: dict[str, argparse._ArgumentGroup] = {}
    for option in EVERY.values():
        title = option.spec.group
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        _add(groups[title], option)
    _add_others(parser)


def _add_others(parser: argparse.ArgumentParser) -> None:
    """Take gunicorn's options too, so that each gets its answer and its value is not taken for an address."""
    taken = parser._option_string_actions  # noqa: SLF001 - not public, and stable since Python 2.7
    for known in gunicorn.BY_NAME.values():
        flags = [flag for flag in known.flags if flag not in taken]
        if flags:
            count = 0 if known.takes == 0 else "?"
            parser.add_argument(*flags, dest=OTHERS, action=_Note, nargs=count, help=argparse.SUPPRESS, default=None)


class _Note(argparse.Action):
    """Collects what was given for gunicorn's options: the flag as it was written, and its value."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Add one."""
        noted = getattr(namespace, self.dest) or []
        setattr(namespace, self.dest, [*noted, (option_string or "", values if isinstance(values, str) else None)])


def answers(noted: Sequence[tuple[str, str | None]] | None) -> list[Problem]:
    """Return what is to be said of gunicorn's options: errors where the server would not do what was asked for."""
    found = []
    for flag, value in noted or ():
        known = gunicorn.BY_FLAG[flag]
        asked = True if known.takes == 0 or (known.takes == "?" and value is None) else value
        given = f"{flag} {value}" if value else flag
        if known.is_harmless(asked):
            hint = known.text if known.fate is gunicorn.Fate.ABSENT else f"{known.fate}: {known.text}"
            found.append(Problem("W030", f"{given} has no effect", hint, level="warning"))
        else:
            found.append(Problem("E030", f"{given} is gunicorn's, and not offered", known.text))
    return found


def _add(group: argparse._ArgumentGroup, option: Option) -> None:
    names = option.flags
    # argparse expands %(...)s in help texts, and a default may hold a per cent sign.
    text = help_text(option).replace("%", "%%")
    if option.spec.kind is FLAG:
        group.add_argument(*names, dest=option.dest, action=argparse.BooleanOptionalAction, default=None, help=text)
    elif option.spec.kind is ANNOUNCED:
        metavar = option.spec.kind.metavar
        group.add_argument(*names, dest=option.dest, nargs="?", const="on", default=None, metavar=metavar, help=text)
    elif option.spec.kind.repeatable:
        metavar = option.spec.kind.metavar
        group.add_argument(*names, dest=option.dest, action="append", default=None, metavar=metavar, help=text)
    else:
        group.add_argument(*names, dest=option.dest, default=None, metavar=option.spec.kind.metavar, help=text)


def help_text(option: Option) -> str:
    """Return an option's help with its bounds, default and environment variables."""
    notes = [
        option.bounds,
        f"default: {default_text(option)}",
        f"environment: {', '.join((option.variable, *option.spec.environment))}",
    ]
    return f"{option.spec.help} [{'; '.join(filter(None, notes))}]"


def default_text(option: Option) -> str:
    """Return the default as text; where the machine decides it, how."""
    return option.spec.default_note or option.show(option.make_default()) or "none"


def overrides(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Pick from parsed arguments what was given: option name to raw value, for ``resolve`` and for ``Launch``."""
    given = {name: arguments[name] for name in EVERY if arguments.get(name) is not None}
    if arguments.get(POSITIONAL) is not None:
        bind = given.get("bind", [])
        given["bind"] = [arguments[POSITIONAL], *([bind] if isinstance(bind, str) else bind)]
    return given


def config_as_text(resolved: Resolved) -> str:
    """Return one line for each option, those of each alias's pool at the end: name, value, where it came from."""
    rows = [(name, _shown(option, resolved.config), resolved.sources[name]) for name, option in OPTIONS.items()]
    for alias, pool in resolved.pools.items():
        for name, option in POOL_OPTIONS.items():
            rows.append((f"pools.{alias}.{name}", _shown(option, pool.options), pool.sources[name]))
    name_width = max(len(name) for name, _, _ in rows)
    # One long value should not push every other row's origin out of sight.
    value_width = min(40, max(len(value) for _, value, _ in rows))
    return "\n".join(f"{name:<{name_width}} = {value:<{value_width}}  # {source}" for name, value, source in rows)


def _shown(option: Option, options: Config | PoolOptions) -> str:
    return option.show(getattr(options, option.name)).replace("\n", ", ") or "none"


def config_as_json(resolved: Resolved) -> str:
    """Return an object: option name to value, unit, source and whether a reload adopts a change.

    ``pools`` has such an object for the pool of each alias.
    """
    found: dict[str, Any] = _as_objects(OPTIONS, resolved.config, resolved.sources)
    found["pools"] = {
        alias: _as_objects(POOL_OPTIONS, pool.options, pool.sources) for alias, pool in resolved.pools.items()
    }
    return json.dumps(found, indent=2)


def _as_objects(
    options: Mapping[str, Option], values: Config | PoolOptions, sources: Mapping[str, str]
) -> dict[str, Any]:
    return {
        name: {
            "value": getattr(values, name),
            "unit": option.spec.kind.unit or None,
            "source": sources[name],
            "reloadable": option.spec.reloadable,
        }
        for name, option in options.items()
    }

"""The command line, made from the option table, and the table of values that ``--print-config`` shows."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from djworker.conf import OPTIONS, Config
from djworker.options import Option
from djworker.resolve import Resolved
from djworker.values import FLAG

POSITIONAL = "addrport"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every option, by group, and the address as a positional argument.

    Values stay as typed: ``resolve`` reads them together with the other layers, so that it can tell all problems.
    """
    parser.add_argument(POSITIONAL, nargs="?", metavar="ADDR:PORT", help="Where to listen, as with --bind.")
    groups: dict[str, argparse._ArgumentGroup] = {}
    for option in OPTIONS.values():
        title = option.spec.group
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        _add(groups[title], option)


def _add(group: argparse._ArgumentGroup, option: Option) -> None:
    names = option.flags
    # argparse expands %(...)s in help texts, and a default may hold a per cent sign.
    text = help_text(option).replace("%", "%%")
    if option.spec.kind is FLAG:
        group.add_argument(*names, dest=option.name, action=argparse.BooleanOptionalAction, default=None, help=text)
    elif option.spec.kind.repeatable:
        metavar = option.spec.kind.metavar
        group.add_argument(*names, dest=option.name, action="append", default=None, metavar=metavar, help=text)
    else:
        group.add_argument(*names, dest=option.name, default=None, metavar=option.spec.kind.metavar, help=text)


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
    given = {name: arguments[name] for name in OPTIONS if arguments.get(name) is not None}
    if arguments.get(POSITIONAL) is not None:
        bind = given.get("bind", [])
        given["bind"] = [arguments[POSITIONAL], *([bind] if isinstance(bind, str) else bind)]
    return given


def config_as_text(resolved: Resolved) -> str:
    """Return one line for each option: name, value, where it came from."""
    rows = [(name, _shown(option, resolved.config), resolved.sources[name]) for name, option in OPTIONS.items()]
    name_width = max(len(name) for name, _, _ in rows)
    # One long value should not push every other row's origin out of sight.
    value_width = min(40, max(len(value) for _, value, _ in rows))
    return "\n".join(f"{name:<{name_width}} = {value:<{value_width}}  # {source}" for name, value, source in rows)


def _shown(option: Option, config: Config) -> str:
    return option.show(getattr(config, option.name)) or "none"


def config_as_json(resolved: Resolved) -> str:
    """Return an object: option name to value, unit, source and whether a reload adopts a change."""
    values = resolved.config.to_json()
    return json.dumps(
        {
            name: {
                "value": values[name],
                "unit": option.spec.kind.unit or None,
                "source": resolved.sources[name],
                "reloadable": option.spec.reloadable,
            }
            for name, option in OPTIONS.items()
        },
        indent=2,
    )

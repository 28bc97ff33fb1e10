# ruff: noqa: INP001 - Sphinx finds extensions by folder
"""Sphinx directive that writes the reference of commands from the table of verbs, which the parser is made from as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djworker_generated import Generated

from djworker.control import commands, verbs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx


class Commands(Generated):
    """Every verb: how it is written, what it does, what it takes."""

    sources = (commands.__file__, verbs.__file__)

    def lines(self) -> Iterator[str]:
        """Return a section for each verb."""
        for verb in verbs.VERBS.values():
            if not verb.hidden:
                yield from (verb.name, "-" * len(verb.name), "")
                yield from (
                    f"``djworkerctl {' '.join((verb.name, *map(_written, verb.arguments), *_json(verb)))}``",
                    "",
                )
                yield from (verb.help, "")
                yield from _arguments(verb)


def _json(verb: verbs.Verb) -> list[str]:
    return ["[--json]"] if verb.reads else []


def _written(argument: verbs.Argument) -> str:
    if argument.flag:
        return f"[--{argument.name}{' ' + argument.metavar if argument.metavar else ''}]"
    return f"[{argument.metavar}]" if argument.optional else argument.metavar


def _arguments(verb: verbs.Verb) -> Iterator[str]:
    for argument in verb.arguments:
        yield f"``{_written(argument).strip('[]')}``"
        default = "" if argument.kind is bool or argument.default is None else f" Default: {argument.default:g}."
        takes = "" if argument.kind is bool else f": {argument.takes}."
        yield from (f"   {argument.help}{takes}{default}", "")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("djworker-commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

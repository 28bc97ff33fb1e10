# ruff: noqa: INP001 - Sphinx finds extensions by folder
"""Sphinx directive that writes the reference of commands from the table of verbs, which the parser is made from as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djworker_generated import Generated

from djworker.control import commands, schemas, verbs

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


class Schemas(Generated):
    """The schema of each verb's answer: every field, where it stands, its type, what it is."""

    sources = (schemas.__file__,)

    def lines(self) -> Iterator[str]:
        """Return a section for each verb."""
        for verb, schema in schemas.SCHEMAS.items():
            yield from (f"Answer of {verb}", "-" * len(f"Answer of {verb}"), "")
            yield from _table(schema)


class SmokeSchema(Generated):
    """The schema of a smoke test's report."""

    sources = (schemas.__file__,)

    def lines(self) -> Iterator[str]:
        """Return a table of its fields."""
        yield from _table(schemas.SMOKE)


def _table(schema: dict[str, Any]) -> Iterator[str]:
    yield from (".. list-table::", "   :header-rows: 1", "   :widths: 40 15 45", "")
    yield from _row("field", "type", "")
    yield from _fields(schema, "")
    yield ""


def _fields(schema: dict[str, Any], path: str) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        where = f"{path}.{name}" if path else name
        inner = field.get("items", field)
        mark = "[]" if "items" in field else ""
        yield from _row(f"``{where}{mark}``", _type(field), _meaning(field))
        yield from _fields(inner, f"{where}{mark}")


def _type(field: dict[str, Any]) -> str:
    if "const" in field:
        return f"``{field['const']}``"
    if "items" in field:
        return f"list of {field['items'].get('type', 'object')}"
    kind = field.get("type", "string")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _meaning(field: dict[str, Any]) -> str:
    words = ", ".join(f"``{word}``" if word else "empty" for word in field.get("enum", ()))
    return ": ".join(filter(None, (field.get("description", ""), words))) or "\\ "


def _row(*cells: str) -> Iterator[str]:
    for number, cell in enumerate(cells):
        yield f"   {'* -' if number == 0 else '  -'} {cell}"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("djworker-commands", Commands)
    app.add_directive("djworker-schemas", Schemas)
    app.add_directive("djworker-smoke-schema", SmokeSchema)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

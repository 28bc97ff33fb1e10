"""The part of JSON Schema that djworker.control.schemas is written in, to hold answers against it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}


def complaints(schema: dict[str, Any], value: Any, where: str = "") -> Iterator[str]:
    """What is wrong with a value; a field that the schema does not know is wrong here, too: it is to be documented."""
    if "const" in schema and value != schema["const"]:
        yield f"{where} is {value!r}, not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where} is {value!r}, not one of {schema['enum']}"
    if "type" in schema and not _is(value, schema["type"]):
        yield f"{where} is {value!r}, not {schema['type']}"
        return
    if isinstance(value, dict):
        known = schema.get("properties", {})
        yield from (f"{where}.{name} is missing" for name in schema.get("required", ()) if name not in value)
        for name, item in value.items():
            inner = known.get(name, schema.get("additionalProperties"))
            if inner is None:
                yield f"{where}.{name} is not documented"
            elif inner is not True:  # else it has a schema of its own
                yield from complaints(inner, item, f"{where}.{name}")
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from complaints(schema["items"], item, f"{where}[{number}]")


def _is(value: Any, kinds: str | list[str]) -> bool:
    wanted = tuple(one for kind in ([kinds] if isinstance(kinds, str) else kinds) for one in _TYPES[kind])
    return isinstance(value, wanted) and (not isinstance(value, bool) or bool in wanted)

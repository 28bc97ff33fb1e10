"""What a client and the arbiter say to each other: one JSON object a line, in both directions.

A client sends a request: ``{"version": 1, "verb": "scale", "arguments": {"workers": 4}}``. The arbiter answers with any number of
``progress`` and ``piece`` lines, and one last line, ``result`` or ``refused``. Then the client may send the next request. All
lines have a version; a field may come to be added within a version, and never changes its meaning or its type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

__all__ = ["KINDS", "LINE_LIMIT", "VERSION", "Kind", "Reply", "Request", "UnreadableLineError"]

#: Raised where a field changes its meaning. A server refuses a client of a later version.
VERSION: Final = 1
#: Bytes of a request. The longest is that of a pause, with the name of an alias.
LINE_LIMIT: Final = 16 * 1024
#: Bytes of one line of an answer, which a client takes. The server's are far shorter, but for the status of 1024 workers.
REPLY_LIMIT: Final = 4 * 1024 * 1024
#: The lines of an answer: what happens meanwhile, a part of what a worker says, and the two ends.
Kind = Literal["progress", "piece", "result", "refused"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


class UnreadableLineError(ValueError):
    """What came is no line of this protocol; the text says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """[client, arbiter] One request."""

    verb: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the line, newline included."""
        return _line({"version": VERSION, "verb": self.verb, "arguments": dict(self.arguments)})

    @classmethod
    def decode(cls, line: bytes) -> Request:
        """Read a line.

        Raises:
            UnreadableLineError: it is no request, or one of a later version.
        """
        match {"arguments": {}, **_object(line)}:
            case {"version": int(version)} if version > VERSION:
                raise UnreadableLineError(f"the client speaks version {version}, this server {VERSION}")
            case {"version": int(), "verb": str(verb), "arguments": dict(arguments)}:
                return cls(verb, arguments)
        raise UnreadableLineError('no request: give {"version": 1, "verb": "status", "arguments": {}}')


@dataclass(frozen=True, slots=True)
class Reply:
    """[client, arbiter] One line of an answer. kind: see ``Kind``; fields: all other fields of the line."""

    kind: Kind
    fields: Mapping[str, Any]

    @property
    def is_last(self) -> bool:
        """Whether it ends the answer."""
        return self.kind in ("result", "refused")

    def encode(self) -> bytes:
        """Return the line, newline included."""
        return _line({"version": VERSION, "kind": self.kind, **self.fields})

    @classmethod
    def decode(cls, line: bytes) -> Reply:
        """Read a line.

        Raises:
            UnreadableLineError: it is no line of an answer. The socket may be another program's.
        """
        fields = _object(line)
        kind = fields.pop("kind", None)
        fields.pop("version", None)
        if kind not in KINDS:
            raise UnreadableLineError(f"no line of an answer: {line[:100]!r}")
        return cls(kind, fields)


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.decode())
    except ValueError as error:
        raise UnreadableLineError(f"not JSON: {error}") from None
    except RecursionError:
        raise UnreadableLineError("nested too deeply") from None
    if not isinstance(found, dict):
        raise UnreadableLineError("not an object of JSON")
    return found

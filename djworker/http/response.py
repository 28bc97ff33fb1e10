"""Answers: status and fields to bytes, checked so that nothing an application says can break the framing."""

from __future__ import annotations

import logging
import re
from email.utils import formatdate
from http import HTTPStatus
from time import time
from typing import TYPE_CHECKING, Final

from djworker import log
from djworker.http.grammar import TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["REQUEST_ID", "ResponseError", "common_fields", "error_response", "render", "status_line"]

logger = logging.getLogger("djworker.http")

CRLF: Final = "\r\n"
SERVER: Final = "djworker"
VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
STATUS: Final = re.compile(r"([2-9][0-9]{2}) [\t \x21-\x7e\x80-\xff]*")
#: An application may invent names and reasons, so the caches have a size.
CACHED: Final = 512
#: Seconds after which a client that was not served may come again.
RETRY_AFTER: Final = 5

#: PEP 3333: "applications and middleware are forbidden from using HTTP/1.1 hop-by-hop features or headers". Views that were
#: written for another server set some of them; they say nothing that the client needs, so they are dropped.
HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    }
)
# What a field means to the server, as bits. From DATE on, they change what the server adds itself.
ORDINARY, LENGTH, REQUEST_ID, DATE, SERVER_NAME, DROPPED = 0, 1, 2, 4, 8, 16
MEANINGS: Final = {"content-length": LENGTH, "x-request-id": REQUEST_ID, "date": DATE, "server": SERVER_NAME}
#: Fields that have few values, and no secret in them: their lines are cached once they have been checked.
LASTING: Final = frozenset(
    {
        "access-control-allow-credentials",
        "access-control-allow-headers",
        "access-control-allow-methods",
        "access-control-allow-origin",
        "allow",
        "cache-control",
        "content-encoding",
        "content-language",
        "content-length",
        "content-type",
        "cross-origin-opener-policy",
        "referrer-policy",
        "strict-transport-security",
        "vary",
        "x-content-type-options",
        "x-frame-options",
    }
)
LASTING_LENGTH: Final = 200

# A field's line, its meaning, and what length it announces, -1 for none.
_Line = tuple[str, int, int]
_lines: dict[tuple[str, str], _Line] = {}
_meanings: dict[str, int] = {}
_status_lines: dict[str, str] = {}
# Names of which it has been said that they are dropped.
_told: set[str] = set()


class ResponseError(Exception):
    """The application broke the rules of WSGI or HTTP; nothing of its answer was sent. Remedy: the application's."""


def render(status: str, headers: Iterable[tuple[str, str]]) -> tuple[str, int, int]:
    """Check a status and header fields and make lines of them, without what the server adds.

    Returns the lines; the Content-Length, -1 where there is none; and the bits of MEANINGS that are there.
    Raises ResponseError.
    """
    length, meanings = -1, 0
    try:
        text = _status_lines.get(status) or status_line(status)
        for name, value in headers:
            field = name, value  # not every application gives tuples
            line, meaning, announced = _lines.get(field) or _line(field)
            text += line
            if meaning:
                meanings |= meaning
                if announced >= 0:
                    if length >= 0:
                        raise ResponseError(f"repeated Content-Length {announced}")
                    length = announced
        if not text.isascii():
            text.encode("latin-1")
    except (AttributeError, TypeError, ValueError) as error:
        raise ResponseError(f"status and header fields are not latin-1 strings: {error}") from error
    return text, length, meanings


def status_line(status: str) -> str:
    """Return the checked line for a status such as "200 OK".

    Raises:
        ResponseError: it is none.
    """
    if not STATUS.fullmatch(status):
        raise ResponseError(f"invalid final status {status!r}: want three digits, a blank, and a reason")
    line = f"HTTP/1.1 {status}\r\n"
    if len(_status_lines) < CACHED:
        _status_lines[status] = line
    return line


def _line(field: tuple[str, str]) -> _Line:
    """Check a field."""
    name, value = field
    meaning = _meanings.get(name)
    if meaning is None:
        meaning = _meaning(name)
    if meaning == DROPPED:
        return "", ORDINARY, -1
    # Also false for a few harmless characters, which the slow check knows better.
    if not value.isprintable():
        _check_value(name, value)
    line = f"{name}: {value}\r\n", meaning, _length(value) if meaning == LENGTH else -1
    if name.lower() in LASTING and len(value) <= LASTING_LENGTH:
        if len(_lines) >= CACHED:
            _lines.clear()
        _lines[field] = line
    return line


def _meaning(name: str) -> int:
    """Check a field's name, and return what the field means to the server."""
    if not TOKEN.fullmatch(name):
        raise ResponseError(f"invalid header name {name!r}")
    lower = name.lower()
    meaning = MEANINGS.get(lower, ORDINARY)
    if lower in HOP_BY_HOP:
        meaning = DROPPED
        _tell_of_dropped(name, lower)
    if len(_meanings) < CACHED:
        _meanings[name] = meaning
    return meaning


def _tell_of_dropped(name: str, lower: str) -> None:
    """Warn, once for each name."""
    if lower in _told:
        return
    _told.add(lower)
    text = f"the application's header field {name} is dropped: the connection is the server's (PEP 3333)"
    log.event(logger, logging.WARNING, "field_dropped", text, field=name)


def _length(value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise ResponseError(f"invalid Content-Length {value!r}")
    return int(value)


def _check_value(name: str, value: str) -> None:
    if not VALUE.fullmatch(value):
        raise ResponseError(f"header field {name} has a control character, or one that is not in latin-1: {value!r}")


# The lines of the second that began at the one time and ends at the other.
# Floats: to compare one with an integer takes ten times as long.
_since = _until = 0.0
_second_lines = ""


def common_fields(meanings: int = 0) -> str:
    """Return the Date and Server lines, without those that the application gave itself, and the empty line."""
    global _since, _until, _second_lines  # noqa: PLW0603 - one text serves a second's answers
    now = time()
    if not _since <= now < _until:
        _since = float(int(now))
        _until = _since + 1.0
        _second_lines = f"Date: {formatdate(_since, usegmt=True)}\r\nServer: {SERVER}\r\n\r\n"
    if meanings < DATE:
        return _second_lines
    date, server, _, _ = _second_lines.split(CRLF)
    lines = ["" if meanings & DATE else date + CRLF, "" if meanings & SERVER_NAME else server + CRLF]
    return "".join(lines) + CRLF


def error_response(status: int, *, body: bool = True, lines: str = "") -> bytes:
    """Return the server's own answer, after which the connection ends. With 503, it says when to come back.

    lines: more fields, each with its line end.
    """
    phrase = HTTPStatus(status).phrase
    text = f"{status} {phrase}\n".encode()
    head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\nConnection: close\r\n"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        head += f"Retry-After: {RETRY_AFTER}\r\n"
    return (head + lines + common_fields()).encode() + (text if body else b"")

"""Answers: status and fields to bytes, checked so that nothing an application says can break the framing."""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Fields", "ResponseError", "common_fields", "error_response", "render", "status_line"]

CRLF: Final = b"\r\n"
SERVER: Final = "djworker"
NOT_CONTROL: Final = bytes(byte for byte in range(256) if (byte >= 0x20 and byte != 0x7F) or byte == 0x09)
NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
STATUS: Final = re.compile(r"([2-9][0-9]{2}) [\t \x21-\x7e\x80-\xff]*")
# An application may invent names and reasons, so the caches have a size.
CACHED: Final = 512

# PEP 3333: "applications and middleware are forbidden from using HTTP/1.1 hop-by-hop features or headers"
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
ORDINARY, LENGTH, DATE, SERVER_NAME = range(4)
_MEANINGS: Final = {"content-length": LENGTH, "date": DATE, "server": SERVER_NAME}
_meanings: dict[str, int] = {}
_status_lines: dict[str, str] = {}


class ResponseError(Exception):
    """The application broke the rules of WSGI or HTTP; nothing of its answer was sent. Remedy: the application's."""


class Fields:
    """[worker] What the server has to know of an application's header fields."""

    __slots__ = ("head", "length", "meanings")

    def __init__(self, head: bytes, length: int, meanings: int) -> None:
        self.head = head
        self.length = length
        self.meanings = meanings


def render(status: str, headers: Iterable[tuple[str, str]]) -> Fields:
    """Check and encode a status and header fields; the fields that are the server's, and the empty line, are left out.

    The length is -1 where the application gave none. Raises ResponseError.
    """
    parts = [_status_lines.get(status) or status_line(status)]
    length, meanings = -1, 0
    try:
        for name, value in headers:
            meaning = _meanings.get(name)
            if meaning is None:
                meaning = _meaning(name)
            if meaning:
                meanings |= 1 << meaning
                if meaning == LENGTH:
                    length = _length(value, length)
                    continue
            parts += (name, ": ", value, "\r\n")
        head = "".join(parts).encode("latin-1")
    except (TypeError, ValueError) as error:
        raise ResponseError(f"header fields are not a list of pairs of latin-1 strings: {error}") from error
    lines = head.count(CRLF)
    if lines * 4 != len(parts) + 3 or len(head.translate(None, NOT_CONTROL)) != 2 * lines:
        raise ResponseError(f"control character in a header field or status: {_culprit(headers)}")
    return Fields(head, length, meanings)


def status_line(status: str) -> str:
    """Return the checked line for a status such as "200 OK"."""
    if not isinstance(status, str) or not STATUS.fullmatch(status):
        raise ResponseError(f"invalid final status {status!r}: want three digits, a blank, and a reason")
    line = f"HTTP/1.1 {status}\r\n"
    if len(_status_lines) < CACHED:
        _status_lines[status] = line
    return line


def _meaning(name: str) -> int:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ResponseError(f"invalid header name {name!r}")
    lower = name.lower()
    if lower in HOP_BY_HOP:
        raise ResponseError(f"hop-by-hop header {name}: the connection is the server's (PEP 3333)")
    meaning = _MEANINGS.get(lower, ORDINARY)
    if len(_meanings) < CACHED:
        _meanings[name] = meaning
    return meaning


def _length(value: str, before: int) -> int:
    if not (value.isascii() and value.isdigit()) or before >= 0:
        raise ResponseError(f"invalid or repeated Content-Length {value!r}")
    return int(value)


def _culprit(headers: Iterable[tuple[str, str]]) -> str:
    return ", ".join(name for name, value in headers if not value.isprintable()) or "status"


def _date_line() -> Callable[[], bytes]:
    """Make a function that returns the Date and Server lines; one text serves a second's answers."""
    second, text = 0, b""

    def line() -> bytes:
        nonlocal second, text
        now = int(time.time())
        if now != second:
            text = f"Date: {formatdate(now, usegmt=True)}\r\nServer: {SERVER}\r\n".encode()
            second = now
        return text

    return line


_date_and_server = _date_line()


def common_fields(meanings: int = 0) -> bytes:
    """Return the Date and Server lines, without those that the application gave itself."""
    if not meanings >> DATE:
        return _date_and_server()
    date, server, _ = _date_and_server().split(CRLF)
    given = b"" if meanings & 1 << DATE else date + CRLF
    return given if meanings & 1 << SERVER_NAME else given + server + CRLF


def error_response(status: int, *, body: bool = True) -> bytes:
    """Return the server's own answer, after which the connection ends."""
    phrase = HTTPStatus(status).phrase
    text = f"{status} {phrase}\n".encode()
    head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\nConnection: close\r\n"
    return head.encode() + common_fields() + CRLF + (text if body else b"")

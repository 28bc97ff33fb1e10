"""One line for each request: gunicorn's atoms, so that dashboards and parsers made for it go on working.

https://docs.gunicorn.org/en/stable/settings.html#access-log-format
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Protocol

from djworker import log

#: The format that is no template: one JSON object for each request.
JSON: Final = "json"
ATOM: Final = re.compile(r"%\(([^()]*)\)s")
ATOMS: Mapping[str, str] = {
    "h": "client's address",
    "l": "always -",
    "u": "user name of HTTP basic authentication",
    "t": "time of the answer's end",
    "r": "request line",
    "m": "method",
    "U": "path without the query",
    "q": "query",
    "H": "protocol",
    "s": "status code",
    "B": "length of the answer's body in bytes",
    "b": "the same, - for none",
    "f": "Referer header",
    "a": "User-Agent header",
    "T": "time taken in whole seconds",
    "M": "time taken in milliseconds",
    "D": "time taken in microseconds",
    "L": "time taken in seconds with six decimals",
    "R": "why the client did not get the answer, or not that of the application",
    "P": "what the request was doing when it was ended: at its deadline, by an operator, or with its worker",
    "p": "process id of the worker, in angle brackets",
    "{name}i": "a header of the request",
    "{name}o": "a header of the answer",
    "{name}e": "a variable of the WSGI environment",
}
_BLANK: Final = re.compile(r"\s")
_NAMED: Final = re.compile(r"\{([^{}]+)\}([ioe])")
#: strftime would write them in the language of the locale.
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Answered(Protocol):
    """What is read of a request and its answer: the server's Exchange has it."""

    environ: dict[str, Any]
    status: str  # as in "200 OK"
    headers: list[tuple[str, str]]
    sent: int  # bytes of the body
    error: str  # why the answer is not what the application wanted
    reason: str  # why the client has not got it, or not all of it
    phase: str  # what it was doing when it was ended, empty where it was not
    pid: int  # of the worker that had it; 0 for this process
    started: float  # on the clock that access_logger is given


Part = Callable[[Answered, float], str]


def unknown_atoms(template: str) -> list[str]:
    """Return the atoms of a format that do not exist, as written in it."""
    names = [match[1] for match in ATOM.finditer(template)]
    return [f"%({name})s" for name in names if name not in _PARTS and not _NAMED.fullmatch(name)]


def stray_percent(template: str) -> bool:
    """Tell whether a format has a per cent sign that is neither an atom's nor doubled."""
    return "%" in ATOM.sub("", template).replace("%%", "")


def compile_format(template: str) -> Callable[[Answered, float], str]:
    """Make a function of an answered request and the seconds it took, which writes its line.

    Quotes and backslashes in what a client sent are escaped, as Apache does, so that a line can be parsed.
    """
    pieces = ATOM.split(template)  # text, atom, text, atom, ..., text
    texts = [text.replace("%%", "%") for text in pieces[::2]]
    parts = [_part(name) for name in pieces[1::2]]

    def line(answered: Answered, seconds: float) -> str:
        words = [texts[0]]
        for part, text in zip(parts, texts[1:], strict=True):
            words += (part(answered, seconds), text)
        return "".join(words)

    return line


def json_line(answered: Answered, seconds: float) -> str:
    """Write one request as a JSON object: `_fields`, and when, how and by which process it was answered."""
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    protocol = answered.environ.get("SERVER_PROTOCOL", "")
    return json.dumps({"time": moment, "pid": os.getpid(), "protocol": protocol, **_fields(answered, seconds)})


def access_logger(template: str, clock: Callable[[], float] = time.monotonic) -> Callable[[Answered], None]:
    """[worker] Make the function that the server calls after each answer. Never raises.

    template: a format of atoms, or ``json`` for one JSON object a line.
    clock: the one that ``started`` was read from.
    """
    line = json_line if template == JSON else compile_format(template)

    def access(answered: Answered) -> None:
        seconds = max(0.0, clock() - answered.started)
        log.access_line(line(answered, seconds), **(_fields(answered, seconds) if log.wants_fields() else {}))

    return access


def _fields(answered: Answered, seconds: float) -> dict[str, Any]:
    """Return what a JSON line has beside the text."""
    environ = answered.environ
    return {
        "client": environ.get("REMOTE_ADDR", ""),
        "method": environ.get("REQUEST_METHOD", ""),
        "path": environ.get("PATH_INFO", ""),
        "query": environ.get("QUERY_STRING", ""),
        "host": environ.get("HTTP_HOST", ""),
        "status": int(answered.status[:3]) if answered.status[:3].isdecimal() else 0,
        "bytes": answered.sent,
        "seconds": round(seconds, 6),
        "reason": answered.reason or answered.error,
        "phase": answered.phase,
        "referer": environ.get("HTTP_REFERER", ""),
        "agent": environ.get("HTTP_USER_AGENT", ""),
        "request_id": environ.get("HTTP_X_REQUEST_ID", ""),
        **({"pid": answered.pid} if answered.pid else {}),
    }


def _part(name: str) -> Part:
    if match := _NAMED.fullmatch(name):
        return _NAMED_PARTS[match[2]](match[1])
    return _PARTS[name]


def _quoted(value: object) -> str:
    text = str(value)
    if '"' in text or "\\" in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return text or "-"


def _in_one_word(text: str) -> str:
    """A blank would shift the fields behind it."""
    return _BLANK.sub(
        lambda match: f"\\u{ord(match[0]):04x}" if ord(match[0]) > 0xFF else f"\\x{ord(match[0]):02x}", text
    )


def _variable(name: str) -> Part:
    return lambda answered, _seconds: _quoted(answered.environ.get(name, ""))


def _request_header(name: str) -> Part:
    key = name.upper().replace("-", "_")
    return _variable(key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}")


def _answer_header(name: str) -> Part:
    wanted = name.lower()
    return lambda answered, _seconds: _quoted(_header(answered.headers, wanted))


def _header(headers: Sequence[tuple[str, str]], wanted: str) -> str:
    return next((value for name, value in headers if name.lower() == wanted), "")


def _user(answered: Answered, _seconds: float) -> str:
    scheme, _, encoded = str(answered.environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    if scheme.lower() != "basic":
        return "-"
    try:  # RFC 7617 section 2: user-id, colon, password
        return _in_one_word(
            _quoted(base64.b64decode(encoded.strip(), validate=True).partition(b":")[0].decode("utf-8"))
        )
    except (binascii.Error, ValueError):
        return "-"


@lru_cache(maxsize=2)
def _stamp(second: int) -> str:
    moment = time.localtime(second)
    return time.strftime(f"[%d/{_MONTHS[moment.tm_mon - 1]}/%Y:%H:%M:%S %z]", moment)


def _request_line(answered: Answered, _seconds: float) -> str:
    environ = answered.environ
    if not environ.get("REQUEST_METHOD"):
        return "-"
    target = environ.get("RAW_URI") or environ.get("REQUEST_URI") or _target(environ)
    return _quoted(f"{environ.get('REQUEST_METHOD', '')} {target} {environ.get('SERVER_PROTOCOL', '')}")


def _target(environ: Mapping[str, Any]) -> str:
    path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
    return f"{path}?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else path


_PARTS: Mapping[str, Part] = {
    "h": _variable("REMOTE_ADDR"),
    "l": lambda _answered, _seconds: "-",
    "u": _user,
    "t": lambda _answered, _seconds: _stamp(int(time.time())),
    "r": _request_line,
    "m": _variable("REQUEST_METHOD"),
    "U": _variable("PATH_INFO"),
    "q": _variable("QUERY_STRING"),
    "H": _variable("SERVER_PROTOCOL"),
    "s": lambda answered, _seconds: answered.status[:3] or "000",
    "B": lambda answered, _seconds: str(answered.sent),
    "b": lambda answered, _seconds: str(answered.sent or "-"),
    "f": _variable("HTTP_REFERER"),
    "a": _variable("HTTP_USER_AGENT"),
    "T": lambda _answered, seconds: str(int(seconds)),
    "M": lambda _answered, seconds: str(int(seconds * 1_000)),
    "D": lambda _answered, seconds: str(int(seconds * 1_000_000)),
    "L": lambda _answered, seconds: f"{seconds:.6f}",
    "R": lambda answered, _seconds: _quoted(answered.reason or answered.error),
    "P": lambda answered, _seconds: answered.phase or "-",
    # Asked each time: a worker is forked from a mold that has another.
    "p": lambda answered, _seconds: f"<{answered.pid or os.getpid()}>",
}
_NAMED_PARTS: Mapping[str, Callable[[str], Part]] = {"i": _request_header, "o": _answer_header, "e": _variable}

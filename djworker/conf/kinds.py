"""Kinds of option value: how each is read from text (command line, environment) or from a Python value (settings).

A reader raises UnreadableError, which says what is wrong and what to give instead. Readers are strict:
``int()`` would take ``+5``, ``1_0`` and ``True``, and a typing error would become a setting.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, TypeVar

from djworker.conf import peers
from djworker.conf.address import Address
from djworker.conf.problems import UnreadableError
from djworker.conf.span import Span

T = TypeVar("T")
W = TypeVar("W", bound=str)

_WHOLE: Final = re.compile(r"-?[0-9]{1,15}", re.ASCII)
_SPAN: Final = re.compile(r"([0-9]{1,9})\.\.([0-9]{1,9})", re.ASCII)
_QUANTITY: Final = re.compile(r"(-?[0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([a-z]*)", re.ASCII)
_OCTAL: Final = re.compile(r"(?:0o)?([0-7]{1,4})", re.ASCII)
_SECONDS: Mapping[str, float] = {"": 1, "ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_BYTES: Mapping[str, int] = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_FLAGS: Mapping[str, bool] = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One kind of value. read: raw value to T, or UnreadableError; show: T to the text that ``read`` takes back."""

    name: str
    read: Callable[[object], T]
    show: Callable[[T], str]
    metavar: str
    unit: str = ""
    repeatable: bool = False


def _read_whole(raw: object) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and _WHOLE.fullmatch(raw.strip()):
        return int(raw)
    raise UnreadableError("not a whole number", "give digits only")


def _read_workers(raw: object) -> int:
    """A number, or ``2..8`` for one that follows the load."""
    hint = "give 4, or 2..8 to follow the load; without it there is one for each processor"
    if isinstance(raw, Span):
        return raw
    if not (isinstance(raw, str) and ".." in raw):
        try:
            return _read_whole(raw)
        except UnreadableError as error:
            raise UnreadableError(error.message, hint) from None
    match = _SPAN.fullmatch(raw.strip())
    if match is None or not 0 < int(match[1]) <= int(match[2]):
        raise UnreadableError("neither a number nor LEAST..MOST", hint)
    least, most = int(match[1]), int(match[2])
    return Span(least, most) if least < most else most


def _read_seconds(raw: object) -> float:
    if isinstance(raw, timedelta):
        return raw.total_seconds()
    return _read_quantity(raw, _SECONDS, "not a time", "give seconds (90, 1.5) or 500ms, 90s, 5m, 1h")


def _read_size(raw: object) -> int:
    size = _read_quantity(raw, _BYTES, "not a size", "give bytes (8190) or 64k, 10M, 1G")
    if size != int(size):
        raise UnreadableError("not a whole number of bytes", "give bytes (8190) or 64k, 10M, 1G")
    return int(size)


def _read_quantity(raw: object, units: Mapping[str, float], complaint: str, hint: str) -> float:
    if isinstance(raw, str):
        # "10MB" and "10MiB" mean the same: memory and bodies are counted in powers of two here.
        match = _QUANTITY.fullmatch(re.sub(r"(?<=[kmg])i?b$", "", raw.strip().lower()))
        if match and match[2] in units:
            return float(match[1]) * units[match[2]]
    elif isinstance(raw, int | float) and not isinstance(raw, bool) and abs(raw) <= sys.float_info.max:
        return float(raw)
    raise UnreadableError(complaint, hint)


def _read_flag(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.strip().lower() in _FLAGS:
        return _FLAGS[raw.strip().lower()]
    raise UnreadableError("neither true nor false", "give true, false, yes, no, on, off, 1 or 0")


def _read_announced(raw: object) -> bool:
    """Read a flag, or gunicorn's words for the versions of the PROXY protocol: the version is found."""
    return True if isinstance(raw, str) and raw.strip().lower() in {"v1", "v2", "auto"} else _read_flag(raw)


def _read_text(raw: object) -> str:
    if isinstance(raw, str) and raw and raw.isprintable():
        return raw
    raise UnreadableError("not a text", "give printable characters")


def _read_optional_text(raw: object) -> str | None:
    return None if raw is None or raw == "" else _read_text(os.fspath(raw) if isinstance(raw, os.PathLike) else raw)


def _read_umask(raw: object) -> int:
    if isinstance(raw, str) and (match := _OCTAL.fullmatch(raw.strip().lower())):
        return int(match[1], 8)
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    raise UnreadableError("not an octal number", "give 027 or 0o027")


def _read_list(raw: object) -> list[str]:
    """Read "a,b" or a sequence of such texts."""
    items: Sequence[object] = [raw] if isinstance(raw, str) else raw if isinstance(raw, list | tuple) else [None]
    found: list[str] = []
    for item in items:
        if not isinstance(item, str):
            raise UnreadableError("neither a text nor a list of texts", "give 'a,b' or ['a', 'b']")
        found += [part.strip() for part in item.split(",") if part.strip()]
    return found


def _read_addresses(raw: object) -> tuple[str, ...]:
    items = [str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in _as_list(raw)]
    found: list[str] = []
    for text in _read_list(items):
        try:
            address = str(Address.parse(text))
        except UnreadableError as error:
            raise UnreadableError(f"{text!r}: {error.message}", error.hint) from None
        if address in found and not address.endswith(":0"):  # port 0 is another free port each time
            raise UnreadableError(f"{text!r} is given twice", "give it once")
        found.append(address)
    if not found:
        raise UnreadableError("no address", "give HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N")
    return tuple(found)


def _read_addresses_or_none(raw: object) -> tuple[str, ...]:
    return (
        _read_addresses(raw) if raw not in (None, "", (), [], [""]) else ()
    )  # [""] is the flag with nothing: --status-bind=


def _read_peers(raw: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(peers.canonical, _read_list(raw))))


def _as_list(raw: object) -> list[object]:
    return list(raw) if isinstance(raw, list | tuple) else [raw]


def _read_paths(raw: object) -> tuple[str, ...]:
    paths = tuple(_read_list(raw))
    for path in paths:
        if not path.startswith("/") or not path.isprintable() or " " in path:
            raise UnreadableError(f"{path!r} is no path of a URL", "start it with / and quote spaces as %20")
    return paths


def _read_probe(raw: object) -> tuple[str, ...]:
    """``off`` (in settings also False) for no paths at all."""
    if raw is False or (isinstance(raw, str) and raw.strip().lower() == "off"):
        return ()
    if isinstance(raw, list | tuple) and len(raw) == 1:  # as the command line gives it
        return _read_probe(raw[0])
    try:
        return _read_paths(raw)
    except UnreadableError as error:
        raise UnreadableError(error.message, f"{error.hint}; off asks for no page") from None


def _show_probe(paths: tuple[str, ...]) -> str:
    return ",".join(paths) or "off"


def _read_patterns(raw: object) -> tuple[str, ...]:
    """Read a list of regular expressions, or a text with one on each line: a comma may be part of one."""
    items = [line for line in raw.splitlines() if line.strip()] if isinstance(raw, str) else raw
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise UnreadableError("no list of texts", "give ['my_function'], or a text with one on each line")
    for pattern in items:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            reason = " ".join(str(error).split())
            hint = "see the documentation of Python's re"
            raise UnreadableError(f"{pattern!r} is no regular expression ({reason})", hint) from None
    return tuple(items)


def _read_control(raw: object) -> str:
    """``auto``, ``off`` (in settings also False), or where the socket is to be."""
    if raw is False:
        return "off"
    if isinstance(raw, os.PathLike):
        raw = os.fspath(raw)
    if isinstance(raw, str) and raw.strip().lower() in {"auto", "off"}:
        return raw.strip().lower()
    if isinstance(raw, str) and raw.removeprefix("unix:").startswith(("/", "@")):
        return Address.parse(f"unix:{raw.removeprefix('unix:')}").path
    raise UnreadableError(
        "neither auto, nor off, nor a path", "give auto, off, or a path such as /run/shop/control.sock"
    )


def choice(*choices: W) -> Kind[W]:
    """Make the kind of value that is one of some words; case does not matter. Its ``read`` raises UnreadableError."""

    def read(raw: object) -> W:
        for word in choices:
            if isinstance(raw, str) and raw.strip().lower() == word:
                return word
        raise UnreadableError("not known here", f"give {', '.join(choices[:-1])} or {choices[-1]}")

    return Kind("choice", read, str, "{" + ",".join(choices) + "}")


def _show_number(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".")


def _show_optional(value: str | None) -> str:
    return value or ""


def _show_flag(value: bool) -> str:  # noqa: FBT001 - it shows a flag
    return "true" if value else "false"


def _show_umask(value: int) -> str:
    return f"0o{value:03o}"


WORKERS: Final = Kind("number, or least..most", _read_workers, str, "N")
WHOLE: Final = Kind("whole number", _read_whole, str, "N")
SECONDS: Final = Kind("time", _read_seconds, _show_number, "SECONDS", unit="seconds")
SIZE: Final = Kind("size", _read_size, str, "BYTES", unit="bytes")
FLAG: Final = Kind("flag", _read_flag, _show_flag, "")
ANNOUNCED: Final = Kind("flag", _read_announced, _show_flag, "{on,off}")
TEXT: Final = Kind("text", _read_text, str, "TEXT")
NAME: Final = Kind("name", _read_optional_text, _show_optional, "NAME")
FILE: Final = Kind("path of a file", _read_optional_text, _show_optional, "PATH")
CONTROL: Final = Kind("auto, off, or path of a socket", _read_control, str, "{auto,off,PATH}")
UMASK: Final = Kind("octal number", _read_umask, _show_umask, "OCTAL")
ADDRESSES_OR_NONE: Final = Kind("list of addresses", _read_addresses_or_none, ",".join, "ADDRESS", repeatable=True)
ADDRESSES: Final = Kind("list of addresses", _read_addresses, ",".join, "ADDRESS", repeatable=True)
PEERS: Final = Kind("list of peers", _read_peers, ",".join, "PEER", repeatable=True)
PATHS: Final = Kind("list of URL paths", _read_paths, ",".join, "PATH", repeatable=True)
PATTERNS: Final = Kind("list of regular expressions", _read_patterns, "\n".join, "PATTERN", repeatable=True)
PROBE: Final = Kind("list of URL paths, or off", _read_probe, _show_probe, "PATH", repeatable=True)

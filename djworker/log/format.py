"""How a log record becomes text: a line for people, or one JSON object in one line for machines."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

from djworker.log.request_id import NONE

EVENT: Final = "djworker_event"
FIELDS: Final = "djworker_fields"
_DEPTH: Final = 6
#: C0, DEL and C1 controls, the two separators that some viewers take for line ends, and the controls of bidirectional text
#: (UAX #9 2.1 to 2.7; CVE-2021-42574): a client's URL must not be able to forge a line of the log, to have one shown in
#: another order, nor to send commands to the terminal that shows it.
_BIDI: Final = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_CONTROL: Final = re.compile(f"[\x00-\x1f\x7f-\x9f\u2028\u2029{_BIDI}]")
_CONTROL_BUT_NEWLINE: Final = re.compile(f"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029{_BIDI}]")
#: "pid" is not among them: an event about another process (worker_ready) carries that one's.
_RESERVED: Final = frozenset({"time", "level", "role", "event", "message"})


class TextFormatter(logging.Formatter):
    """``[2026-11-23 23:11:01.123 +0000] [4711] [INFO] worker 0 ready (slot=0 generation=7)``.

    Fields of several lines (tracebacks, stacks) follow below, indented.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write the record, never raising."""
        short: list[str] = []
        blocks: list[str] = []
        for name, value in fields_of(record).items():
            text = safe_str(value)
            if "\n" in text:
                blocks.append(_block(name, text))
            elif text:
                short.append(f"{name}={escape(text)}")
        tail = f" ({' '.join(short)})" if short else ""
        stamp = datetime.fromtimestamp(record.created).astimezone()
        when = f"{stamp:%Y-%m-%d %H:%M:%S}.{stamp.microsecond // 1000:03d} {stamp:%z}"
        line = f"[{when}] [{record.process}] [{record.levelname}] {escape(message_of(record))}{tail}"
        return "\n".join([line, *blocks])


class JSONFormatter(logging.Formatter):
    """One JSON object: time, level, pid, role, event, message, then the event's own fields.

    A record that is no event of ours has the name of its logger.
    """

    def __init__(self, role: str) -> None:
        """Role: which kind of process this is."""
        super().__init__()
        self.role = role

    def format(self, record: logging.LogRecord) -> str:
        """Write the record in one line, never raising."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "pid": record.process,
            "role": self.role,
            "event": getattr(record, EVENT, "log"),
            "message": message_of(record),
        }
        if not hasattr(record, EVENT):
            entry["logger"] = record.name
        for name, value in fields_of(record).items():
            entry[f"{name}_" if name in _RESERVED else name] = jsonable(value)
        return json.dumps(entry, ensure_ascii=True, allow_nan=False)


def fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    """Return an event's fields, then its request's id, if it has one, and the traceback of the exception, if any."""
    fields: Mapping[str, Any] = getattr(record, FIELDS, {})
    extra: dict[str, str] = {}
    request = getattr(record, "request_id", NONE)
    if request != NONE and "request_id" not in fields:
        extra["request_id"] = safe_str(request)
    if record.exc_info and record.exc_info[0] is not None:
        extra["traceback"] = _traceback(record)
    if record.stack_info:
        extra["stack"] = record.stack_info
    return {**fields, **extra} if extra else fields


def _traceback(record: logging.LogRecord) -> str:
    try:
        return logging.Formatter().formatException(record.exc_info)  # type: ignore[arg-type]  # not None: see caller
    except Exception as error:  # noqa: BLE001 - an exception whose repr raises must not lose the line
        return f"<no traceback: {type(error).__name__}>"


def message_of(record: logging.LogRecord) -> str:
    """Return the message, or what can be said of one whose arguments do not fit."""
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - a line is written whatever its parts do
        return f"{safe_str(record.msg)} <arguments do not fit: {type(error).__name__}>"


def jsonable(value: object, depth: int = _DEPTH) -> Any:
    """Turn anything into what JSON can carry; what it does not know becomes its text."""
    # Exact types only: a subclass's methods (a lazy translation, a queryset) may run queries or raise.
    kind = type(value)
    if value is None or kind is bool:
        return value
    if isinstance(value, int) and -(1 << 63) <= int.__int__(value) < 1 << 64:
        return int.__int__(value)
    if isinstance(value, float) and math.isfinite(float.__float__(value)):
        return float.__float__(value)
    if depth and kind is dict:
        return {safe_str(key): jsonable(item, depth - 1) for key, item in list(cast("dict[Any, Any]", value).items())}
    if depth and kind in {list, tuple, set, frozenset}:
        return [jsonable(item, depth - 1) for item in list(cast("list[Any]", value))]
    return safe_str(value)


def safe_str(value: object) -> str:
    """Return ``str(value)``, or a placeholder where that raises."""
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a log line is never worth a failure
        return f"<unprintable {type(value).__name__}: {type(error).__name__}>"


def escape(text: str) -> str:
    r"""Write control characters, line ends among them, as ``\x1b``."""
    return _CONTROL.sub(_as_escape, text)


def _as_escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _block(name: str, text: str) -> str:
    lines = "\n    ".join(_CONTROL_BUT_NEWLINE.sub(_as_escape, line) for line in text.rstrip("\n").split("\n"))
    return f"  {name}:\n    {lines}"

"""What the processes say to each other: typed, frozen, one JSON object a line.

The arbiter never imports Django and the mold may run newer code than the arbiter, so nothing but plain JSON values
crosses a channel. A message that this version does not know (another name, other fields) is decoded to ``Unknown`` and
logged, never fatal: after an upgrade a new mold speaks to an old arbiter until that is replaced too.

A known message with a value of another type is no message at all: the arbiter may be root where its children are not, and
what it acts on must be what it looks like. So a field never changes its type; a new one gets a new name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NoReturn, get_type_hints

#: A traceback is cut to this many characters (its end is kept), so that one message always fits a socket buffer.
TRACEBACK_LIMIT: Final = 32 * 1024
#: Any other text (all errors of the system checks, in one) is cut to this many, for the same reason.
TEXT_LIMIT: Final = 8 * 1024
#: A whole number in a message is an id: of a process (``pid_t`` has 31 bits), of a worker, of a slot.
HIGHEST_ID: Final = 2**31 - 1


class NotAMessageError(ValueError):
    """What came is no message; the text says why."""


@dataclass(frozen=True, slots=True)
class SpawnWorker:
    """arbiter → mold: fork a worker. Its end of the channel, its row, and its region if it has one travel along."""

    worker_id: int
    slot: int


@dataclass(frozen=True, slots=True)
class RegionMade:
    """arbiter → status process: a slot is used for the first time; its region travels along as a descriptor."""

    slot: int


@dataclass(frozen=True, slots=True)
class Probe:
    """arbiter → mold: ask your generation these paths, in a child, for the sake of generation ``about``.

    ``hosts``: what the generation in force allows; empty where there is none, and when it is asked itself.
    """

    about: int
    paths: list[str]
    hosts: list[str]


@dataclass(frozen=True, slots=True)
class Probed:
    """mold → arbiter: what it answers. ``answers``: question to ``[bad, text, traceback]``; ``hosts``: what it allows."""

    about: int
    hosts: list[str]
    answers: dict[str, Any]


@dataclass(frozen=True, slots=True)
class MoldReady:
    """mold → arbiter: loaded, checked, warm. ``config`` is the configuration that the settings on disk give now."""

    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LoadsAlone:
    """mold → arbiter, before it is ready: it can fork no workers, each must load the project by itself. It can become one."""


@dataclass(frozen=True, slots=True)
class MoldFailed:
    """mold → arbiter: this generation cannot boot; ``module`` names who is to blame."""

    stage: str
    module: str
    error: str
    traceback: str


@dataclass(frozen=True, slots=True)
class WorkerForked:
    """mold → arbiter: the pid of a worker that was just forked."""

    worker_id: int
    pid: int


@dataclass(frozen=True, slots=True)
class ForkFailed:
    """mold → arbiter: the system refused the fork."""

    worker_id: int
    error: str


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """worker → arbiter: accepting."""


@dataclass(frozen=True, slots=True)
class WorkerBootFailed:
    """worker → arbiter: an exception between fork and ready."""

    error: str
    traceback: str


@dataclass(frozen=True, slots=True)
class RecycleWanted:
    """worker → arbiter: I have served my requests; replace me, then retire me."""

    reason: str


@dataclass(frozen=True, slots=True)
class ListenersClosed:
    """worker → arbiter: asked to retire, I accept no more."""


@dataclass(frozen=True, slots=True)
class ProcessGone:
    """arbiter → mold: a worker or a mold has died; tell the receivers of ``process_gone``, in a child.

    ``status``: its exit code, or minus the signal.
    """

    kind: str
    pid: int
    generation: int
    status: float


@dataclass(frozen=True, slots=True)
class Retire:
    """arbiter → worker: stop accepting, finish what runs, exit.

    ``grace`` is in seconds. ``empty_backlog``: no other process will accept, so take what the kernel has queued first.
    """

    grace: float
    empty_backlog: bool


@dataclass(frozen=True, slots=True)
class ReopenLogs:
    """arbiter → worker: log files were rotated."""


@dataclass(frozen=True, slots=True)
class SetLogLevel:
    """arbiter → worker: log from this level on (``debug`` … ``critical``)."""

    level: str


@dataclass(frozen=True, slots=True)
class WorkerAsked:
    """arbiter → worker: what a control client asks. ``about``: requests, trace, pool, kill, pause, resume."""

    number: int
    about: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WorkerAnswered:
    """worker → arbiter: a part of what it says to a question; all parts together are JSON, which the client reads."""

    number: int
    last: bool
    text: str


@dataclass(frozen=True, slots=True)
class FilesChanged:
    """reloader → arbiter: files of the project changed on disk."""

    paths: list[str]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of another version."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Garbled:
    """What came and is no message; never sent. ``reason`` says why not, ``text`` has its beginning."""

    reason: str
    text: str


Message = (
    SpawnWorker
    | RegionMade
    | Probe
    | Probed
    | MoldReady
    | LoadsAlone
    | MoldFailed
    | WorkerForked
    | ForkFailed
    | WorkerReady
    | WorkerBootFailed
    | RecycleWanted
    | ListenersClosed
    | ProcessGone
    | Retire
    | ReopenLogs
    | SetLogLevel
    | WorkerAsked
    | WorkerAnswered
    | FilesChanged
    | Unknown
    | Garbled
)

_KNOWN: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (
        SpawnWorker,
        RegionMade,
        Probe,
        Probed,
        MoldReady,
        LoadsAlone,
        MoldFailed,
        WorkerForked,
        ForkFailed,
        WorkerReady,
        WorkerBootFailed,
        RecycleWanted,
        ListenersClosed,
        ProcessGone,
        Retire,
        ReopenLogs,
        SetLogLevel,
        WorkerAsked,
        WorkerAnswered,
        FilesChanged,
    )
}


def encode(message: Message) -> bytes:
    """One line of JSON, newline included."""
    fields = {name: _fitting(name, value) for name, value in asdict(message).items()}
    return json.dumps([type(message).__name__, fields], separators=(",", ":")).encode() + b"\n"


def _fitting(name: str, value: Any) -> Any:
    if name == "traceback" or not isinstance(value, str) or len(value) <= TEXT_LIMIT:
        return value
    return value[:TEXT_LIMIT] + "…"


def decode(line: bytes) -> Message:
    """The message in *line*.

    Raises:
        NotAMessageError: the line is not a message at all, or one whose values are not of their types.
    """
    name, fields = _parse(line)
    cls = _KNOWN.get(name)
    if cls is None or fields.keys() != _CHECKS[cls].keys():  # another version, or one between
        return Unknown(name, fields)
    for key, (fits, kind) in _CHECKS[cls].items():
        if not fits(fields[key]):
            raise NotAMessageError(f"{name}.{key} is not {kind}: {fields[key]!r:.100}")
    message: Message = cls(**fields)
    return message


def _parse(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        read = _JSON.decode(line.decode())
    except ValueError as error:
        raise NotAMessageError(f"not JSON: {error}") from None
    except RecursionError:
        raise NotAMessageError("nested too deeply") from None
    match read:
        case [str(name), dict(fields)]:
            return name, fields
    raise NotAMessageError("not a pair of a name and its fields")


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


_JSON: Final = json.JSONDecoder(parse_constant=_no_number)


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value <= HIGHEST_ID


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


#: The type of a field, how its values are known, and what they are called. Names of fields are texts in every JSON object.
_FITS: Final[Mapping[object, tuple[Callable[[Any], bool], str]]] = {
    int: (_is_id, f"a whole number from 0 to {HIGHEST_ID}"),
    float: (_is_number, "a finite number"),
    bool: (lambda value: isinstance(value, bool), "true or false"),
    str: (lambda value: isinstance(value, str), "a text"),
    list[str]: (_is_texts, "a list of texts"),
    dict[str, Any]: (lambda value: isinstance(value, dict), "an object"),
}
_CHECKS: Final = {cls: {name: _FITS[kind] for name, kind in get_type_hints(cls).items()} for cls in _KNOWN.values()}


def tail(traceback: str) -> str:
    """The end of a traceback, where its cause stands, short enough for one message."""
    return traceback if len(traceback) <= TRACEBACK_LIMIT else "…" + traceback[-TRACEBACK_LIMIT:]

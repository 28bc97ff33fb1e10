"""What the processes say to each other: typed, frozen, one JSON object a line.

The arbiter never imports Django and the mold may run newer code than the arbiter, so nothing but plain JSON values
crosses a channel. A message that this version does not know is decoded to ``Unknown`` and logged, never fatal: after an
upgrade a new mold speaks to an old arbiter until that is replaced too.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

#: A traceback is cut to this many characters (its end is kept), so that one message always fits a socket buffer.
TRACEBACK_LIMIT = 32 * 1024
#: Any other text (all errors of the system checks, in one) is cut to this many, for the same reason.
TEXT_LIMIT = 8 * 1024


@dataclass(frozen=True, slots=True)
class SpawnWorker:
    """arbiter → mold: fork a worker; its end of the channel travels along as a descriptor."""

    worker_id: int
    slot: int


@dataclass(frozen=True, slots=True)
class MoldReady:
    """mold → arbiter: loaded, checked, warm. ``config`` is the configuration that the settings on disk give now."""

    config: dict[str, Any]


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
class Retire:
    """arbiter → worker: stop accepting, finish what runs, exit.

    ``grace`` is in seconds. ``empty_backlog``: nobody else will accept, so take what the kernel has queued first.
    """

    grace: float
    empty_backlog: bool


@dataclass(frozen=True, slots=True)
class ReopenLogs:
    """arbiter → worker: log files were rotated."""


@dataclass(frozen=True, slots=True)
class FilesChanged:
    """reloader → arbiter: files of the project changed on disk."""

    paths: list[str]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of another version."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)


Message = (
    SpawnWorker
    | MoldReady
    | MoldFailed
    | WorkerForked
    | ForkFailed
    | WorkerReady
    | WorkerBootFailed
    | RecycleWanted
    | Retire
    | ReopenLogs
    | FilesChanged
    | Unknown
)

_KNOWN: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (
        SpawnWorker,
        MoldReady,
        MoldFailed,
        WorkerForked,
        ForkFailed,
        WorkerReady,
        WorkerBootFailed,
        RecycleWanted,
        Retire,
        ReopenLogs,
        FilesChanged,
    )
}


def encode(message: Message) -> bytes:
    """One line of JSON, newline included."""
    fields = {name: _fitting(name, value) for name, value in asdict(message).items()}
    return json.dumps([type(message).__name__, fields], separators=(",", ":")).encode() + b"\n"


def _fitting(name: str, value: Any) -> Any:  # noqa: ANN401
    if name == "traceback" or not isinstance(value, str) or len(value) <= TEXT_LIMIT:
        return value
    return value[:TEXT_LIMIT] + "…"


def decode(line: bytes) -> Message:
    """The message in *line*.

    Raises:
        ValueError: the line is not a message at all.
    """
    name, fields = json.loads(line)
    cls = _KNOWN.get(name)
    try:
        return cls(**fields) if cls is not None else Unknown(name, fields)
    except TypeError:  # same name, other fields: a version between
        return Unknown(name, fields)


def tail(traceback: str) -> str:
    """The end of a traceback, where its cause stands, short enough for one message."""
    return traceback if len(traceback) <= TRACEBACK_LIMIT else "…" + traceback[-TRACEBACK_LIMIT:]

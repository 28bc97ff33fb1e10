"""What a fleet asks of the loop. Verb phrases; all frozen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class BootMold:
    """Start a fresh interpreter that loads the code on disk."""

    generation: int


@dataclass(frozen=True, slots=True)
class ProbeMold:
    """Have the mold of ``generation`` answer the questions of generation ``about``."""

    generation: int
    about: int


@dataclass(frozen=True, slots=True)
class QuestionMold:
    """It has not booted in time: have it say where it hangs."""

    generation: int


@dataclass(frozen=True, slots=True)
class StopMold:
    """Close its channel: it has nothing to finish."""

    generation: int


@dataclass(frozen=True, slots=True)
class KillMold:
    """SIGKILL."""

    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class ForkWorker:
    """Have the mold of ``generation`` fork a worker into ``slot``."""

    worker_id: int
    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class RetireWorker:
    """Let it finish what runs, for at most ``grace`` seconds."""

    worker_id: int
    grace: float
    empty_backlog: bool


@dataclass(frozen=True, slots=True)
class KillWorker:
    """SIGKILL, with the reason for the log."""

    worker_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class AdoptConfig:
    """The configuration that this generation's mold sent is in force."""

    generation: int


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the operator."""

    event: str
    level: str
    message: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exit:
    """No child is left."""

    code: int


Command = (
    BootMold
    | ProbeMold
    | QuestionMold
    | StopMold
    | KillMold
    | ForkWorker
    | RetireWorker
    | KillWorker
    | AdoptConfig
    | Announce
    | Exit
)

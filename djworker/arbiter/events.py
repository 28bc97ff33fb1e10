"""What can happen to a fleet. Facts, in the past tense or as a request; all frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djworker.arbiter.canary import Sample
    from djworker.arbiter.handles import Policy
    from djworker.arbiter.probing import Answers, Failure


@dataclass(frozen=True, slots=True)
class Started:
    """The arbiter runs; nothing else does."""


@dataclass(frozen=True, slots=True)
class Reload:
    """SIGHUP, or files that changed."""


@dataclass(frozen=True, slots=True)
class Stop:
    """SIGTERM; ``fast``: SIGINT, SIGQUIT."""

    fast: bool


@dataclass(frozen=True, slots=True)
class Scale:
    """SIGTTIN (+1), SIGTTOU (-1)."""

    delta: int


@dataclass(frozen=True, slots=True)
class Resize:
    """The load asks for another number of workers."""

    workers: int
    reason: str


@dataclass(frozen=True, slots=True)
class DeadlineReached:
    """The deadline that ``Fleet.next_deadline`` named has come."""


@dataclass(frozen=True, slots=True)
class MoldBooted:
    """A mold has loaded, checked and warmed its code; its settings ask for ``policy``."""

    generation: int
    policy: Policy


@dataclass(frozen=True, slots=True)
class MoldBootFailed:
    """A mold has said, or left behind, why it cannot boot; its end follows."""

    generation: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class GenerationProbed:
    """What ``generation`` answers to the questions that ``about`` has to answer.

    ``by_spare``: a spare worker has answered, which may have been loaded after the files had changed, or there was none.
    """

    generation: int
    about: int
    answers: Answers
    by_spare: bool = False


@dataclass(frozen=True, slots=True)
class MoldGone:
    """A mold is dead and reaped."""

    generation: int
    status: int


@dataclass(frozen=True, slots=True)
class WorkerBooted:
    """A worker accepts."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """A worker has said why it did not become ready; its end follows."""

    worker_id: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The worker's hub turned at ``beat`` (seconds, same clock as ``now``)."""

    worker_id: int
    beat: float


@dataclass(frozen=True, slots=True)
class Sampled:
    """What ready workers have counted, by worker: while one is watched beside the others."""

    samples: Mapping[int, Sample]


@dataclass(frozen=True, slots=True)
class Recycle:
    """A worker asks to be replaced."""

    worker_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerClosed:
    """A worker that retires has closed its listeners: no new connection reaches it."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class WorkerGone:
    """A worker is dead and reaped."""

    worker_id: int
    status: int


Event = (
    Started
    | Reload
    | Stop
    | Scale
    | Resize
    | DeadlineReached
    | MoldBooted
    | MoldBootFailed
    | GenerationProbed
    | MoldGone
    | WorkerBooted
    | WorkerFailed
    | Heartbeat
    | Sampled
    | Recycle
    | WorkerClosed
    | WorkerGone
)

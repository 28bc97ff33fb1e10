"""The pool's background tasks. What may take time happens here: connect, check, reset, cancel and close."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gevent
from gevent import Greenlet

if TYPE_CHECKING:
    from collections.abc import Callable

    Work = Callable[[], object]
    Outcome = tuple[object, BaseException | None]
    Task = Greenlet[[Work], Outcome]
    Done = Callable[[Any, BaseException | None], None]


@dataclass(slots=True)
class _Job:
    done: Done
    deadline: float
    timeout: float


class Tasks:
    """[worker] The pool's background greenlets.

    The work runs in the greenlet, its consequence in a link, in the hub: so there is a consequence however the
    greenlet ends, even when it was killed before it began. A consequence must not switch.
    """

    def __init__(self) -> None:
        self._jobs: dict[Task, _Job] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def start(self, work: Work, done: Done, *, now: float, timeout: float) -> Task:
        """Run `work()`, then `done(value, error)`; kill it when it takes longer than `timeout` seconds."""
        greenlet = Greenlet(_attempt, work)
        self._jobs[greenlet] = _Job(done, now + timeout, timeout)
        greenlet.rawlink(self._ended)
        greenlet.start()
        return greenlet

    def kill_overdue(self, now: float) -> None:
        """Kill what takes too long. Its consequence follows when it is dead."""
        for greenlet, job in self._jobs.items():
            if job.deadline <= now:
                job.deadline = now + job.timeout
                greenlet.kill(block=False)

    def next_deadline(self) -> float | None:
        """When the first of them has taken too long."""
        return min((job.deadline for job in self._jobs.values()), default=None)

    def join(self, timeout: float | None) -> None:
        """Wait until all that is under way has ended, and what follows from it: who was reset may be closed next."""
        with gevent.Timeout(timeout, False):  # type: ignore[arg-type]  # gevent's word for "silently", unknown to the stubs
            while self._jobs:
                gevent.joinall(list(self._jobs))
                gevent.sleep(0)  # the links of those that were dead already run in the hub

    def abandon(self) -> None:
        """After a fork: these are copies of the parent's greenlets. They must not go on, nor have consequences."""
        for greenlet in self._jobs:
            greenlet.kill(block=False)
        self._jobs.clear()

    def _ended(self, greenlet: Task) -> None:
        job = self._jobs.pop(greenlet, None)
        if job is None:
            return
        if isinstance(greenlet.value, tuple):
            job.done(*greenlet.value)
        else:  # killed: gevent makes the exit the value of a greenlet; anything worse is its exception
            job.done(None, greenlet.exception or TimeoutError("no answer in time"))


def _attempt(work: Work) -> Outcome:
    try:
        return work(), None
    except Exception as error:  # noqa: BLE001 - handed to `done`, which decides
        return None, error
    except gevent.Timeout as error:  # a driver's own time limit that got away; not one of ours
        return None, error

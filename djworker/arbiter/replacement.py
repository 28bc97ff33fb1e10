"""Which worker goes, and whether one more may come: new before old, and one more than wanted at the most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djworker.arbiter.handles import WorkerState
from djworker.arbiter.timing import STABLE
from djworker.ipc.contract import SURGE

if TYPE_CHECKING:
    from djworker.arbiter.handles import ProcessTable, WorkerHandle


def may_spawn(processes: ProcessTable, current: int, target: int) -> bool:
    """Whether one more worker of generation *current* is wanted and finds room."""
    alive = processes.alive()
    outdated = processes.outdated(current)
    fresh = len(alive) - len(outdated)
    # With fewer workers wanted than before, the outdated ones alone may exceed the target; there is still one surge.
    room = max(target, len(outdated)) + SURGE if outdated else target
    return fresh < target and len(alive) < room and processes.has_slot()


def surplus(processes: ProcessTable, current: int, target: int) -> list[WorkerHandle]:
    """Workers that are too many, oldest code first; never so many that proven ones fall below *target*."""
    excess = sum(worker.proven for worker in processes.ready()) - target
    if excess <= 0 or not any(worker.proven for worker in processes.ready(current)):
        return []  # code that has proved nothing retires no worker, even where it wants fewer workers
    outdated = [worker for worker in processes.outdated(current) if worker.state is WorkerState.READY]
    outdated.sort(key=lambda worker: (worker.generation == current, worker.worker_id))
    others = sorted((worker for worker in processes.ready() if worker not in outdated), key=lambda worker: -worker.slot)
    return (outdated + others)[:excess]


def is_complete(processes: ProcessTable, current: int, target: int) -> bool:
    """Whether all workers are of generation *current*, and as many as wanted have proved themselves."""
    if any(worker.generation != current for worker in processes.alive()):
        return False
    return sum(worker.proven for worker in processes.ready(current)) >= target


def stable_at(processes: ProcessTable, current: int) -> float:
    """When the youngest of these workers has lived long enough to be trusted for good."""
    return max(worker.ready_at for worker in processes.ready(current)) + STABLE

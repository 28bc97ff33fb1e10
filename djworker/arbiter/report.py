"""The state of the server as JSON, from what the arbiter itself knows: it asks no other process, so it always answers."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

import djworker
from djworker.arbiter.history import INTERVAL
from djworker.arbiter.recent import Lately
from djworker.ipc.scoreboard import Gauge
from djworker.units import KIBIBYTE, NANOSECONDS

if TYPE_CHECKING:
    from djworker.arbiter.child import Child
    from djworker.arbiter.children import Children
    from djworker.arbiter.fleet import Fleet
    from djworker.arbiter.handles import WorkerHandle
    from djworker.arbiter.observer import Observer
    from djworker.conf.table import Config

#: What clients are told of a ``Lately``, in its order.
_LATELY: Final = ("requests_per_second", "errors_per_second", "cpu", "p50", "p99")


class Arbiter(Protocol):
    """What is told of: ``Loop`` has it."""

    fleet: Fleet
    children: Children
    config: Config
    observer: Observer
    #: What a client has asked to be logged from on; empty where the configuration says it.
    log_level: str


def identity(arbiter: Arbiter) -> dict[str, Any]:
    """Return which server this is."""
    launch = arbiter.children.launch
    return {
        "pid": os.getpid(),
        "name": arbiter.config.proc_name or launch.proc_name,
        "directory": launch.cwd,
        "path": launch.sys_path[0] if launch.sys_path else launch.cwd,
        "settings": launch.settings_module or launch.app,
        "djworker": djworker.__version__,
    }


def status(arbiter: Arbiter) -> dict[str, Any]:
    """Return the server, its generations and its workers."""
    fleet, now = arbiter.fleet, time.monotonic()
    arbiter.observer.look(arbiter.children.workers(), now)
    recent = arbiter.observer.recent.workers()
    workers = sorted(fleet.processes.workers.values(), key=lambda worker: (worker.slot, worker.worker_id))
    return {
        "server": {
            **identity(arbiter),
            "addresses": [str(listener) for listener in arbiter.children.listeners],
            "stopping": fleet.ending,
            "started": round(arbiter.observer.started, 3),
        },
        "generation": fleet.current,
        "workers_wanted": fleet.target,
        "workers_ready": fleet.ready_count(),
        "rolling": fleet.rolling,
        "log_level": arbiter.log_level or arbiter.config.log_level,
        "recent": _lately(arbiter.observer.recent.total()),
        "restarts": dict(arbiter.observer.restarts),
        "generations": [
            {"generation": mold.generation, "state": mold.state.value, "pid": _pid(arbiter, mold.generation)}
            for mold in fleet.processes.molds.values()
        ],
        "workers": [
            {
                **_worker(arbiter, worker, now),
                "restarts": arbiter.observer.restarts_of[worker.slot],
                "recent": _lately(recent.get(worker.worker_id, Lately())),
            }
            for worker in workers
        ],
    }


def history(arbiter: Arbiter, since: float) -> dict[str, Any]:
    """Return the last hour, or what of it is later than *since* (seconds since 1970)."""
    observer = arbiter.observer
    return {"interval": INTERVAL, "samples": observer.history.columns(since), "reloads": list(observer.reloads)}


def _lately(figures: Lately) -> dict[str, Any]:
    return {name: None if value is None else round(value, 6) for name, value in zip(_LATELY, figures, strict=True)}


def _pid(arbiter: Arbiter, generation: int) -> int:
    child = arbiter.children.by_key.get(("mold", generation))
    return child.pid if child is not None else 0


def _worker(arbiter: Arbiter, worker: WorkerHandle, now: float) -> dict[str, Any]:
    child = arbiter.children.by_key.get(("worker", worker.worker_id))
    return {**named(worker, child), **_gauges(child, now)}


def named(worker: WorkerHandle, child: Child | None) -> dict[str, Any]:
    """Return which worker this is, and its state."""
    return {
        "slot": worker.slot,
        "generation": worker.generation,
        "pid": child.pid if child is not None else 0,
        "state": worker.state.value,
        "replaced": worker.recycle,
    }


def _gauges(child: Child | None, now: float) -> dict[str, Any]:
    """Its row of the scoreboard. What it says is a number, and nothing is decided by it."""
    reads = child.reads if child is not None else lambda _gauge: 0
    oldest = reads(Gauge.OLDEST)
    return {
        "hub_silent": _seconds_since(reads(Gauge.BEAT), now),
        "running": reads(Gauge.RUNNING),
        "requests": reads(Gauge.REQUESTS),
        "oldest": _seconds_since(oldest, now) if oldest else 0.0,
        "connections": reads(Gauge.OPEN),
        "idle_connections": reads(Gauge.IDLE),
        "queued": reads(Gauge.QUEUED),
        "errors": reads(Gauge.ERRORS),
        "hub_lag": round(reads(Gauge.LATE) / NANOSECONDS, 4),
        "stalls": reads(Gauge.STALLS),
        "cpu_seconds": round(reads(Gauge.CPU) / NANOSECONDS, 3),
        "rss": reads(Gauge.RSS) * KIBIBYTE,
        "pss": reads(Gauge.PSS) * KIBIBYTE,
        "pool": {
            "size": reads(Gauge.POOL_SIZE),
            "idle": reads(Gauge.POOL_AVAILABLE),
            "waiting": reads(Gauge.POOL_WAITING),
            "max": reads(Gauge.POOL_MAX),
        },
    }


def _seconds_since(nanoseconds: int, now: float) -> float:
    return round(max(0.0, now - nanoseconds / NANOSECONDS), 3)

"""Whether the service lives, and whether it is ready: decided from what is in shared memory, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

__all__ = ["Facts", "alive", "ready"]

#: Seconds. The arbiter's loop turns at least once a second; its longest step, the exec of USR2, takes one or two.
ARBITER_SILENT: Final = 5.0
#: Seconds. A worker's hub beats each half second; one that has not for so long accepts nothing.
WORKER_SILENT: Final = 3.0


@dataclass(frozen=True, slots=True)
class Facts:
    """[status] What the memory says.

    arbiter_silent: seconds since the arbiter's loop turned. stopping: it was told to. workers_silent: for each worker that is
    ready, the seconds since its hub turned. outages: the aliases of databases that a ready worker cannot connect to.
    """

    arbiter_silent: float
    stopping: bool = False
    workers_silent: tuple[float, ...] = ()
    outages: frozenset[str] = field(default_factory=frozenset)


def alive(facts: Facts) -> str:
    """Why the arbiter is not alive; empty where it is."""
    if facts.arbiter_silent > ARBITER_SILENT:
        return f"the arbiter has not turned for {facts.arbiter_silent:.0f} s"
    return ""


def ready(facts: Facts, *, databases: bool = True) -> str:
    """Why no request shall be sent here; empty where it may.

    Args:
        facts: what the memory says.
        databases: whether an outage of a database counts.
    """
    if facts.stopping:
        return "stopping"
    if not facts.workers_silent:
        return "no worker is ready"
    if min(facts.workers_silent) > WORKER_SILENT:
        return f"no worker accepts: their hubs have not turned for {min(facts.workers_silent):.0f} s"
    if databases and facts.outages:
        return f"no connection to {', '.join(sorted(facts.outages))}"
    return ""

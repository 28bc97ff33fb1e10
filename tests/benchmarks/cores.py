"""Which core the server gets, and which one everything else."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cores:
    """The server's core and the core of the load; both the same on a machine that has only one."""

    server: int
    load: int

    @property
    def shared(self) -> bool:
        """With one core for both, the load takes time from the server: only CPU per request means something."""
        return self.server == self.load


def choose(available: Collection[int], server: int | None = None, load: int | None = None) -> Cores:
    """The last core for the server, as the first one often serves the machine's interrupts; an explicit wish wins."""
    ordered = sorted(available)
    chosen = ordered[-1] if server is None else server
    others = [core for core in ordered if core != chosen] or [chosen]
    return Cores(server=chosen, load=others[0] if load is None else load)


def pin_this_process(core: int) -> None:
    """Keep this process, and what it starts from now on, on one core."""
    os.sched_setaffinity(0, {core})

"""What the mold hands to its workers: one generation of a project, loaded, and what looks after forks that are not the mold's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from djworker.bug import Bug
from djworker.conf.table import Config
from djworker.http.forwarded import NOTHING_DECLARED, Declared
from djworker.ipc.scoreboard import Gauge
from djworker.worker.balance import Balance

if TYPE_CHECKING:
    from djworker.ipc.regions import Writer

__all__ = ["ForkGuard", "Notify", "Project"]

#: Calls a hook by name; a hook that raises or hangs is logged and holds no worker back.
Notify = Callable[..., None]


def _not_loaded(_environ: Any, _start_response: Any) -> Any:
    message = "bug: a worker without an application"
    raise Bug(message)


@dataclass(frozen=True, slots=True)
class Project:
    """[mold, worker] One generation of a project, loaded."""

    config: Config = field(default_factory=Config)
    title: str = "django"
    app: Callable[..., Any] = _not_loaded
    notify: Notify = lambda *_args, **_kwargs: None
    #: Looks after the database pools at each beat of a worker, and returns their gauges.
    pools: Callable[[], Mapping[Gauge, int]] = dict
    #: Begins to open the database sessions that each worker keeps.
    warm_pools: Callable[[], object] = dict
    #: Gives back the database sessions that a draining worker does not need.
    retire_pools: Callable[[], object] = dict
    #: Counts in a worker's region what its database pools do.
    count_pools: Callable[[Writer], object] = lambda _writer: None
    #: Ends the database sessions of a worker that leaves.
    close_pools: Callable[[], object] = dict
    #: What the workers of this generation know of each other.
    balance: Balance = field(default_factory=Balance)
    #: It can be forked. Otherwise this process is one worker, or a spare one.
    is_shared: bool = True
    #: This process can become a worker itself.
    is_whole: bool = True
    #: What the settings say of proxies.
    declared: Declared = NOTHING_DECLARED
    #: ``djworker.db.insight``; None without Django.
    insight: Any = None


class ForkGuard(Protocol):
    """[worker] Makes forks of the project's harmless: the mold's ``patches.forks.Guard``."""

    def also(self, release: Callable[[], object]) -> None:
        """Have this called in the child, too. It must neither wait nor stop what waits."""

    def install(self) -> None:
        """Guard from now on, in the place of the guard before."""

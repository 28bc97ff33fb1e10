"""What the arbiter notes down so that clients can be told how things went: rates, restarts, reloads, the last hour."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final

from djworker.arbiter.history import INTERVAL, History, Moment
from djworker.arbiter.recent import Count, Recent
from djworker.ipc.scoreboard import Gauge
from djworker.units import KIBIBYTE, NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from djworker.arbiter.child import Child
    from djworker.arbiter.fleet import Fleet

__all__ = ["Observer"]

#: Seconds until the first sample, and again while no worker has ever been ready.
FIRST: Final = 2.0
#: Reloads whose verdicts are kept, and characters of a reason.
RELOADS_KEPT: Final = 20
LONGEST_REASON: Final = 300
_VERDICTS: Final = {"reload_done": True, "reload_failed": False}


def _count(child: Child) -> Count:
    latencies = tuple(child.row.latencies.tolist()) if child.row is not None else Count().latencies
    return Count(child.reads(Gauge.REQUESTS), child.reads(Gauge.ERRORS), child.reads(Gauge.CPU), latencies)


class Observer:
    """[arbiter] Looks, and decides nothing."""

    def __init__(self) -> None:
        self.recent = Recent()
        self.history = History()
        #: Workers that have ended and were to be replaced: by cause, and by slot.
        self.restarts: Counter[str] = Counter()
        self.restarts_of: Counter[int] = Counter()
        #: The latest last.
        self.reloads: deque[dict[str, Any]] = deque(maxlen=RELOADS_KEPT)
        #: Seconds since 1970.
        self.started = time.time()
        now = time.monotonic()
        self._tell_at = now + FIRST
        self.recent.tell({}, now)

    # -- what is noted ------------------------------------------------------------------------------------------------

    def hear(self, event: str, _message: str, _level: int, fields: Mapping[str, object]) -> None:
        """Take in what is told to the log."""
        if event in _VERDICTS:
            done = _VERDICTS[event]
            reason = "" if done else str(fields["reason"])[:LONGEST_REASON]
            self.reloads.append({"at": time.time(), "generation": fields["generation"], "ok": done, "reason": reason})

    def worker_gone(self, child: Child) -> None:
        """A worker has ended; its row is about to be given back."""
        self.recent.gone(child.key[1], _count(child))

    def restarted(self, slot: int, cause: str) -> None:
        """A worker has ended that was to be replaced."""
        self.restarts[cause] += 1
        self.restarts_of[slot] += 1

    def next_deadline(self) -> float:
        """When ``keep`` is due, on the monotonic clock."""
        return self._tell_at

    def keep(self, fleet: Fleet, workers: Iterable[Child], now: float) -> None:
        """Keep a sample, if it is time."""
        if now < self._tell_at:
            return
        if not fleet.ever_ready:
            self._tell_at = now + FIRST
            return
        self._tell_at = now + INTERVAL
        children = list(workers)
        lately = self.recent.tell({child.key[1]: _count(child) for child in children}, now)

        def total(gauge: Gauge) -> int:
            return sum(child.reads(gauge) for child in children)

        size, idle = total(Gauge.POOL_SIZE), total(Gauge.POOL_AVAILABLE)
        self.history.add(
            Moment(
                at=time.time(),
                generation=fleet.current,
                ready=fleet.ready_count(),
                wanted=fleet.target,
                running=total(Gauge.RUNNING),
                queued=total(Gauge.QUEUED),
                **lately._asdict(),
                memory=total(Gauge.PSS) * KIBIBYTE,
                lag=max((child.reads(Gauge.LATE) for child in children), default=0) / NANOSECONDS,
                connections=size,
                leased=max(0, size - idle),
                waiting=total(Gauge.POOL_WAITING),
            )
        )

    # -- what is told -------------------------------------------------------------------------------------------------

    def look(self, workers: Iterable[Child], now: float) -> None:
        """Have the figures of ``recent`` be as of now."""
        if self.recent.due(now):
            self.recent.read({child.key[1]: _count(child) for child in workers}, now)

    # -- across an exec -----------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Return what the next program of this process is told."""
        return {
            "history": self.history.fileno(),
            "restarts": self.restarts,
            "restarts_of": list(self.restarts_of.items()),
            "reloads": list(self.reloads),
            "started": self.started,
        }

    def adopt(self, state: Mapping[str, Any], workers: Iterable[Child]) -> None:
        """Go on where an earlier program was, with its workers; *state* is empty where that knew no observer."""
        self.recent.tell({child.key[1]: _count(child) for child in workers}, time.monotonic())
        if not state:
            return
        self.history.close()
        self.history = History(state["history"])
        self.restarts.update(state["restarts"])
        self.restarts_of.update(dict(state["restarts_of"]))
        self.reloads.extend(state["reloads"])
        self.started = state["started"]

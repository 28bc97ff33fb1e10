"""The watchdog: a native thread that writes down what blocks the hub, before the arbiter ends it.

gunicorn's log has one line for this, ``WORKER TIMEOUT (pid)`` (gunicorn#1440, #3385). A greenlet cannot do it: it would have
to run. The thread is made with the original ``_thread`` and sleeps with the original ``time.sleep``; nothing it calls is
patched, takes a lock, or needs the hub.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from typing import TYPE_CHECKING

from gevent import monkey

from djworker import log
from djworker.ipc.scoreboard import Gauge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from djworker.http.server import InFlight
    from djworker.ipc.scoreboard import Row

logger = logging.getLogger("djworker.worker")

_LOOKS_PER_TIMEOUT = 20
_SHORTEST_NAP = 0.05
_LONGEST_NAP = 1.0
_IN_FLIGHT_SHOWN = 20
_start_thread = monkey.get_original("_thread", "start_new_thread")
_ident = monkey.get_original("_thread", "get_ident")
_sleep = monkey.get_original("time", "sleep")


class Watchdog:
    """[worker] Compares the hub's last beat with the clock; barks once for each time that it stops."""

    def __init__(
        self,
        row: Row,
        timeout: float,
        in_flight: Callable[[], Sequence[InFlight]],
        report_lost: Callable[[str], object],
    ) -> None:
        """Make a watchdog.

        Args:
            row: where the hub beats.
            timeout: seconds without a beat.
            in_flight: what is being served.
            report_lost: writes to the access log what will not be answered, and why.
        """
        self._row = row
        self._timeout = timeout
        self._in_flight = in_flight
        self._report_lost = report_lost
        self._main = _ident()
        self._barked_at = 0

    def start(self) -> None:
        """Watch from now on, as long as the process lives."""
        _start_thread(self._watch, ())

    def _watch(self) -> None:
        nap = min(_LONGEST_NAP, max(_SHORTEST_NAP, self._timeout / _LOOKS_PER_TIMEOUT))
        while True:
            _sleep(nap)
            beat = self._row[Gauge.BEAT]
            silent = (time.monotonic_ns() - beat) / 1e9
            if silent > self._timeout and beat != self._barked_at:
                self._barked_at = beat
                self._bark(silent)

    def _bark(self, silent: float) -> None:
        frame = sys._current_frames().get(self._main)  # noqa: SLF001 - the only way to another thread's stack
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "(gone)"
        running = [_describe(item) for item in self._in_flight()[:_IN_FLIGHT_SHOWN]]
        text = f"the hub has not turned for {silent:.1f} s"
        log.event(
            logger, logging.CRITICAL, "hub_blocked", text, silent=round(silent, 3), in_flight=running, stack=stack
        )
        self._report_lost(f"lost with the worker: {text}")


def _describe(item: InFlight) -> str:
    return f"{item.method} {item.url} from {item.peer}, {item.age:.1f} s, {item.phase}"

"""The watchdog: a native thread that says what blocks the hub: after each stall, and before the arbiter ends the worker.

gunicorn's log has one line for this, ``WORKER TIMEOUT (pid)`` (gunicorn#1440, #3385). A greenlet cannot do it: it would have
to run. The thread is made with the original ``_thread`` and sleeps with the original ``time.sleep``; nothing it calls is
patched, takes a lock, or needs the hub.

C code that keeps the GIL keeps this thread from looking, too. The moment it is over the thread has its turn, and finds the main
thread at the line that has called it. If it never is, the arbiter has the C-level fault handler show the stack.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import sys
import time
from typing import TYPE_CHECKING, Final

import gevent

from djworker import log, process
from djworker.ipc.contract import LOST
from djworker.ipc.scoreboard import Gauge, Phase
from djworker.log.throttle import Throttle
from djworker.units import NANOSECONDS
from djworker.worker.stalls import LASTING, LOOK_INTO, Look, StallWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from djworker.http.connection import InFlight
    from djworker.ipc.scoreboard import Row
    from djworker.worker.answers import Insight
    from djworker.worker.blockers import Blocker, Blockers
    from djworker.worker.stalls import Stall

logger = logging.getLogger("djworker.worker")

_LOOKS_PER_TIMEOUT: Final = 20
_SHORTEST_NAP: Final = 0.05
_LONGEST_NAP: Final = 1.0
_IN_FLIGHT_SHOWN: Final = 20
#: Seconds between two events of stalls in the same function of one worker. Those between are counted in the next.
PERIOD: Final = 10.0
#: CPython wakes a thread that waits for the GIL after each switch interval, and a little later.
_GIL_SLACK: Final = 1.4
#: Seconds that a thread's sleep may be late on a machine that does other things, too.
_SLEEP_SLACK: Final = 0.02
#: Bytes; three numbers.
_SCHEDSTAT: Final = 100
#: pread(2) that keeps the GIL. Python's own gives it away, and C code may keep it then until what is to be seen is over.
_pread: Final = ctypes.PyDLL(None).pread
_pread.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long)
#: Waits of a look that say nothing of C code: for its sleep, and for a turn with the GIL after it.
_OWN_WAITS: Final = 2
_start_thread = process.unpatched("_thread", "start_new_thread")
_sleep = process.unpatched("time", "sleep")


class Watchdog:
    """[worker] Compares the hub's last beat with the clock; barks once for each time that it stops."""

    def __init__(
        self,
        row: Row,
        timeout: float,
        blockers: Blockers,
        in_flight: Callable[[], Sequence[InFlight]],
        report_lost: Callable[[str], object],
    ) -> None:
        """Make a watchdog.

        Args:
            row: where the hub beats.
            timeout: seconds without a beat; 0 for any.
            blockers: finds what blocks the hub.
            in_flight: what is being served.
            report_lost: writes to the access log what will not be answered, and why.
        """
        self._row = row
        self._timeout = timeout
        self._blockers = blockers
        self._in_flight = in_flight
        self._report_lost = report_lost
        self._barked_at = 0
        self._nap = min(_LONGEST_NAP, max(_SHORTEST_NAP, timeout / _LOOKS_PER_TIMEOUT)) if timeout else _LONGEST_NAP
        self.stalls: StallReports | None = None

    def start(self) -> None:
        """Watch from now on, as long as the process lives."""
        if self._timeout or self.stalls is not None:
            _start_thread(self._watch, ())

    def _watch(self) -> None:
        while True:
            nap = self._nap if self.stalls is None else min(self._nap, self.stalls.nap())
            _sleep(nap)
            try:
                if self.stalls is not None:
                    self.stalls.look(nap)
                self._look()
            except Exception:  # noqa: BLE001 - another look may succeed, and without the thread there is none
                text = "the watchdog's look at the hub failed"
                log.event(logger, logging.ERROR, "watchdog_failed", text, exc_info=True)
                _sleep(_LONGEST_NAP)

    def _look(self) -> None:
        beat = self._row[Gauge.BEAT]
        silent = (time.monotonic_ns() - beat) / NANOSECONDS
        if self._timeout and silent > self._timeout and beat != self._barked_at:
            self._barked_at = beat
            self._bark(silent)

    def _bark(self, silent: float) -> None:
        blocker = self._blockers.find()
        running = [_describe(item) for item in self._in_flight()[:_IN_FLIGHT_SHOWN]]
        text = f"the hub has not turned for {silent:.1f} s"
        told = f"{text}: blocked by {blocker.text()}"
        fields = {"silent": round(silent, 3), "in_flight": running, **blocker.fields()}
        log.event(logger, logging.CRITICAL, "hub_blocked", told, **fields)
        if self.stalls is not None:
            self.stalls.is_told()
        self._report_lost(LOST.format(text))


class StallReports:
    """[worker] Tells of stalls: ``hub_stalled``, when one is over or has lasted for long."""

    def __init__(
        self,
        row: Row,
        threshold: float,
        blockers: Blockers,
        insight: Insight,
        count: Callable[[float | None], object],
        lasting: float = LASTING,
    ) -> None:
        """Make them.

        Args:
            row: counts stalls, and says whether the worker serves yet.
            threshold: seconds of the shortest stall.
            blockers: finds what blocks the hub.
            insight: knows the views of URLs.
            count: counts a stall (None), and later its seconds.
            lasting: seconds after which a stall is told of before its end; infinite where something else tells.
        """
        self._row = row
        self._watch = StallWatch(threshold)
        self._blockers = blockers
        self._insight = insight
        self._count = count
        self._lasting = max(lasting, threshold)
        self._loop = blockers.hub.loop
        self._throttle = Throttle(PERIOD)
        self._clocks = _Clocks()
        #: What was seen of the candidate before it was a stall, in case that it ends before another look at it.
        self._early: Blocker | None = None
        #: ``Blocker.number`` of the code that was looked for last among all greenlets.
        self._sought = 0
        self._at = time.monotonic()

    def nap(self) -> float:
        """Seconds until the next look."""
        return self._watch.nap(time.monotonic())

    def look(self, nap: float) -> None:
        """[native thread] See whether the hub turns. nap: seconds that the thread has slept."""
        at = time.monotonic()
        elapsed, self._at = at - self._at, at
        turn = self._loop.iteration
        began = min(at, at - (time.time() - self._loop.now()))
        looks_into = (turn == self._watch.turn or at - began > LOOK_INTO) and self._row[Gauge.PHASE] != Phase.STARTING
        running = self._blockers.running() if looks_into else 0
        # At once: on a busy machine the thread may lose the GIL within its look, and what runs may be over when it has it again.
        glimpse = self._glimpse(running, at, elapsed)
        stall = self._watch.look(Look(at, turn, began, running, *self._clocks.read(nap, elapsed)))
        if stall is not None:
            self._found(stall, self._early if stall is not self._watch.candidate else glimpse)
        self._early = glimpse
        if not self._watch.candidate:
            self._sought = 0
        elif self._watch.found:
            self._tell_while_it_lasts(self._watch.candidate)

    def _glimpse(self, running: int, at: float, elapsed: float) -> Blocker | None:
        """What is seen of something that is no stall yet, in case that it is one, and over, at the next look."""
        if not running or self._watch.found:
            return None
        early, candidate = self._early, self._watch.candidate
        lasts = candidate.seconds(at) if candidate is not None else elapsed
        seeks = lasts > self._watch.threshold / 2 and self._sought != running
        glimpse = self._blockers.find(thorough=seeks)
        if seeks:
            self._sought = running
        if glimpse.request is None and early is not None and early.number == running:
            return early._replace(places=glimpse.places)
        return glimpse

    def _tell_while_it_lasts(self, stall: Stall) -> None:
        if not stall.told and (lasted := stall.seconds(time.monotonic())) >= self._lasting:
            stall.told = True
            self._tell(self._blockers.find(), lasted, 0, lasts=True)

    def is_told(self) -> None:
        """Of the stall that there is, if any, something has been told while it lasts."""
        if (stall := self._watch.candidate) is not None:
            stall.told = True

    # -- a stall ------------------------------------------------------------------------------------------------------

    def _found(self, stall: Stall, early: Blocker | None) -> None:
        """[native thread] The hub is blocked, or has been until now. The hub itself knows best when that ends.

        early: what was seen of it before.
        """
        is_over = stall is not self._watch.candidate
        blocker = early if is_over and early is not None else self._blockers.find()
        if early is not None and early.number == stall.number != blocker.number:
            blocker = early  # it has just ended
        self._row[Gauge.STALLS] += 1
        self._count(None)
        left_out = self._throttle.admit(blocker.subject, time.monotonic())
        self._loop.run_callback_threadsafe(self._ended, stall, blocker, left_out)

    def _ended(self, stall: Stall, blocker: Blocker, left_out: int | None) -> None:
        """[hub] It turns again. Must not wait."""
        seconds = stall.seconds(time.monotonic())
        self._count(seconds)
        if stall.told:
            gevent.spawn(self._tell_of_end, blocker, seconds)
        elif left_out is not None:
            gevent.spawn(self._tell, blocker, seconds, left_out, lasts=False)

    def _tell(self, blocker: Blocker, seconds: float, left_out: int, *, lasts: bool) -> None:
        """lasts: the hub is still blocked, and this is the native thread."""
        view = blocker.view if lasts else self._view(blocker)
        state = "has been blocked for" if lasts else "blocked"
        text = f"hub {state} {_duration(seconds)} by {blocker.text(view)}"
        if left_out:
            text += f"; {left_out} more like this since the last one that was logged"
        fields = {"seconds": round(seconds, 3), "lasts": lasts, "left_out": left_out, **blocker.fields(view)}
        log.event(logger, logging.WARNING, "hub_stalled", text, **fields)

    def _tell_of_end(self, blocker: Blocker, seconds: float) -> None:
        view = self._view(blocker)
        text = f"the hub turns again: blocked {_duration(seconds)} by {blocker.text(view)}"
        log.event(logger, logging.WARNING, "hub_recovered", text, seconds=round(seconds, 3), **blocker.fields(view))

    def _view(self, blocker: Blocker) -> str:
        """Its name. Where an answer was being streamed, no frame knows it any more, but the URLconf does."""
        if blocker.view or blocker.request is None or not blocker.request.environ:
            return blocker.view
        return self._insight.view_at(blocker.request.environ)


class _Clocks:
    """[worker, a native thread of it] Of the time that has passed, how much counts: see `djworker.worker.stalls`."""

    def __init__(self) -> None:
        self._main_thread = _Scheduled(f"/proc/self/task/{os.getpid()}/schedstat")
        self._own_thread = _Scheduled("/proc/thread-self/schedstat")
        self._main = self._own = (0.0, 0.0)
        self._waits = 0

    def read(self, nap: float, elapsed: float) -> tuple[float, float]:
        """Seconds since the last call: those that count, and those that this thread has waited for the GIL, at least.

        nap: seconds that this thread has slept since then. elapsed: all seconds since then.
        """
        waits, self._waits = self._waits, _wake_ups()
        (_, own), self._own = self._own, self._own_thread.read()
        (computed, delay), self._main = self._main, self._main_thread.read()
        waits, late = self._waits - waits, self._own[1] - own
        interval = sys.getswitchinterval()
        kept = max(0, waits - _OWN_WAITS) * (interval + late / max(1, waits))
        awake = min(elapsed, nap + _SLEEP_SLACK + waits * interval * _GIL_SLACK + late)
        return max(self._main[0] - computed, awake - (self._main[1] - delay), 0.0), kept


def _wake_ups() -> int:
    """How often this thread has waited for something: each wait for the GIL counts, for it wakes up to ask for it again."""
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_nvcsw


class _Scheduled:
    """Seconds that a thread has computed, and that it could have and had no processor: a busy machine, a cgroup's quota.

    proc(5). Where the kernel does not tell, the process's processor time stands for the thread's.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None
        self._told = ctypes.create_string_buffer(_SCHEDSTAT)

    def read(self) -> tuple[float, float]:
        with contextlib.suppress(OSError, ValueError):
            if self._file is None:
                self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            size = _pread(self._file, self._told, _SCHEDSTAT, 0)
            computed, delay, _ = map(int, self._told.raw[: max(0, size)].split())
            return computed / NANOSECONDS, delay / NANOSECONDS
        return time.process_time(), 0.0


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"


def _describe(item: InFlight) -> str:
    return f"{item.method} {item.url} from {item.peer}, {item.age:.1f} s, {item.phase}"

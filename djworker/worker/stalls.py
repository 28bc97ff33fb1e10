"""Stalls: one greenlet ran for so long without a wait that the hub could not turn. Pure: looks go in, stalls come out.

A native thread looks at the hub ten times a second or so. A look says in which turn of the loop the hub is, when that turn began,
and what runs. The same thing in the same turn at two looks has not waited between them. Time goes by for other reasons, too, and
counts as lost:

* The process was stopped (SIGSTOP, a debugger, a machine that was suspended). The thread slept as well then, and did not even
  wait for the GIL, which wakes it every few milliseconds. C code that keeps the GIL is known by these wake-ups.
* The machine had no processor for the main thread. The kernel counts how long that was.

What the main thread has computed counts in any case.

C code that keeps the GIL may do so between two looks, and be over at the second one. What ran at the first look then lasted for
as long as the thread waited for the GIL, at least.
"""

from __future__ import annotations

from math import inf
from typing import Final, NamedTuple

__all__ = ["Look", "Stall", "StallWatch"]

#: Seconds between two looks. The threshold itself is met exactly: the look at it comes when it is due.
NAP: Final = 0.1
#: Seconds; no sleep is shorter, whatever the threshold.
SHORTEST_NAP: Final = 0.01
#: Seconds that a turn of the loop has lasted, before a look goes into it. Most looks find a turn that has just begun.
LOOK_INTO: Final = 0.02
#: Seconds after which a stall is told of while it lasts.
LASTING: Final = 5.0


class Look(NamedTuple):
    """What is seen of the hub. Times are in seconds of the monotonic clock."""

    at: float
    #: The number of the loop's turn, and when it began.
    turn: int
    began: float
    #: What runs, by a number of its own; 0: the hub waits for events, or the turn has just begun.
    running: int
    #: Of the time since the last look, how much counts.
    counts: float
    #: Seconds since the last look in which the thread waited for the GIL.
    kept: float


class Stall:
    """A time in which the same thing runs."""

    __slots__ = ("lost", "number", "since", "told", "until")

    def __init__(self, number: int, since: float) -> None:
        #: Of what runs.
        self.number = number
        self.since = since
        self.until = inf
        #: Seconds in which it could not run.
        self.lost = 0.0
        #: Whether it was told of before its end.
        self.told = False

    def __repr__(self) -> str:
        return f"<Stall number={self.number} since={self.since:.3f} until={self.until:.3f} lost={self.lost:.3f}>"

    def seconds(self, until: float) -> float:
        """How long it has lasted until then, or until its end."""
        return max(0.0, min(until, self.until) - self.since - self.lost)


class StallWatch:
    """[worker] Finds stalls of at least *threshold* seconds."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        #: What runs at the last look, which may become a stall, and whether it is one.
        self.candidate: Stall | None = None
        self.found = False
        self._before = Look(0.0, -1, 0.0, 0, 0.0, 0.0)

    def __repr__(self) -> str:
        return f"<StallWatch threshold={self.threshold} candidate={self.candidate!r} found={self.found}>"

    @property
    def turn(self) -> int:
        """The loop's turn at the last look."""
        return self._before.turn

    def look(self, seen: Look) -> Stall | None:
        """Take a look; the stall that it has found, once for each. One that is over already is no candidate any more."""
        before, self._before = self._before, seen
        over = None
        if self.candidate is not None and (seen.turn, seen.running) != (before.turn, before.running):
            over = self._end(self.candidate, before, seen)
        if not seen.running:
            return over
        if self.candidate is None:
            self.candidate = Stall(seen.running, max(seen.began, before.at))
        stall = self.candidate
        elapsed = seen.at - max(before.at, stall.since)
        stall.lost += max(0.0, elapsed - seen.counts)
        if over is not None or self.found or stall.seconds(seen.at) < self.threshold:
            return over
        self.found = True
        return stall

    def _end(self, stall: Stall, before: Look, seen: Look) -> Stall | None:
        """The candidate is over: the stall, if it has become one since the last look."""
        found, self.candidate, self.found = self.found, None, False
        if found:
            stall.until = seen.at
            return None
        # In the same turn, what runs now may have kept the GIL instead. In a later one, what runs there may have kept it since.
        kept_until = before.at + min(seen.kept, seen.counts)
        stall.until = min(kept_until, seen.began) if seen.turn != before.turn else before.at
        return stall if stall.seconds(seen.at) >= self.threshold else None

    def nap(self, now: float) -> float:
        """Seconds until the next look."""
        if self.candidate is None or self.found:
            return NAP
        left = self.threshold - self.candidate.seconds(now)
        return min(NAP, max(SHORTEST_NAP, left))

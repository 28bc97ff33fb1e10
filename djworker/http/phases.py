"""What a connection is doing, and until when: the one door through which both change.

A connection is FRESH until its first bytes come. A request moves it to RUNNING, and its answer to IDLE, where it waits for
the next one. On the way it may be in HEAD (the head comes in pieces), QUEUED (other requests are before it), BODY and
WRITING (the application waits for the client, and goes on where it was; with two greenlets it may read and write at once),
and LINGERING (the answer was the last one, and the client still sends). CLOSED is the end.

Invariants:

* A phase in which the client may keep us waiting has a deadline: FRESH after its turn, HEAD, BODY, WRITING and LINGERING.
  IDLE gets one when a sweep finds it. The others have none: RUNNING is the application's time, QUEUED ends by itself.
* Only the connection's own greenlet changes its phase. There are two exceptions: the hub changes IDLE to QUEUED, and other
  greenlets of the application begin and end BODY and WRITING.
* `MOVES` has every change there is. Another one is a bug, and raises.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple

from djworker.bug import Bug
from djworker.deadlines import NEVER
from djworker.ipc.contract import RequestPhase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["SAID", "TO", "ConnectionPhase", "PeerWait", "Phased"]


class ConnectionPhase(enum.Enum):
    """What a connection is doing. The values are words for the log."""

    FRESH = "accepted"
    IDLE = "idle"
    HEAD = "reading the head"
    QUEUED = "waiting for its turn"
    BODY = "reading the body"
    RUNNING = "running"
    WRITING = "writing"
    LINGERING = "closing"
    CLOSED = "closed"

    # There is one of each. Enum's own hash is a call in Python, and each request looks moves up.
    __hash__ = object.__hash__


_P = ConnectionPhase
#: What operators are told of a request; a connection without one is told of as it is.
SAID: Final[Mapping[ConnectionPhase, str]] = {
    _P.HEAD: RequestPhase.READING_HEAD,
    _P.QUEUED: RequestPhase.QUEUED,
    _P.BODY: RequestPhase.READING_BODY,
    _P.RUNNING: RequestPhase.RUNNING,
    _P.WRITING: RequestPhase.WRITING,
    _P.LINGERING: RequestPhase.CLOSING,
}
#: From each phase, where it may go.
MOVES: Final = {
    _P.FRESH: {_P.FRESH, _P.HEAD, _P.RUNNING, _P.WRITING, _P.LINGERING, _P.CLOSED},
    _P.IDLE: {_P.QUEUED, _P.RUNNING, _P.CLOSED},
    _P.HEAD: {_P.FRESH, _P.RUNNING, _P.WRITING, _P.LINGERING, _P.CLOSED},
    _P.QUEUED: {_P.RUNNING, _P.WRITING, _P.LINGERING, _P.CLOSED},
    _P.BODY: {_P.RUNNING, _P.WRITING, _P.LINGERING, _P.CLOSED},
    _P.RUNNING: set(_P) - {_P.FRESH},
    _P.WRITING: {_P.FRESH, _P.HEAD, _P.QUEUED, _P.BODY, _P.RUNNING, _P.LINGERING, _P.CLOSED},
    _P.LINGERING: {_P.LINGERING, _P.CLOSED},
    _P.CLOSED: {_P.CLOSED},
}


class _Into(dict[ConnectionPhase, ConnectionPhase]):
    """From which phases one can be reached; what is not in it raises."""

    def __init__(self, phase: ConnectionPhase) -> None:
        super().__init__({before: phase for before, after in MOVES.items() if phase in after})
        self._phase = phase

    def __missing__(self, before: ConnectionPhase) -> ConnectionPhase:
        msg = f"bug: a connection cannot go from {before.name} to {self._phase.name}"
        raise Bug(msg)


#: `TO[phase][before]` is the phase, where that move is allowed.
TO: Final = {phase: _Into(phase) for phase in ConnectionPhase}


class PeerWait(NamedTuple):
    """[worker] A greenlet's wait for the peer. deadline: seconds of the monotonic clock."""

    phase: ConnectionPhase
    deadline: float


class Phased:
    """[worker] Something with a phase and a deadline. A phase is set by `enter`, or by `TO`, for the speed of kept requests."""

    __slots__ = ("_between", "_peer_waits", "deadline", "deadline_in", "phase")

    def __init__(self, deadline_in: Callable[[float], float]) -> None:
        """deadline_in: turns a time (seconds) that the peer may take into a deadline."""
        self.deadline_in = deadline_in
        self.phase = ConnectionPhase.FRESH
        self.deadline = NEVER
        # The waits for the peer of the greenlets of one request, and the phase that they are ways from.
        self._peer_waits: tuple[PeerWait, ...] = ()
        self._between = ConnectionPhase.FRESH

    def enter(self, phase: ConnectionPhase, timeout: float | None = None) -> None:
        """Begin a phase.

        Args:
            phase: the new one.
            timeout: seconds that the peer may take; None where it is not the peer that is waited for.

        Raises:
            Bug: there is no such move.
        """
        self.phase = TO[phase][self.phase]
        self.deadline = NEVER if timeout is None else self.deadline_in(timeout)

    def begin_wait(self, phase: ConnectionPhase, timeout: float) -> PeerWait:
        """Begin to wait for the peer on the way, until ``end_wait``; of two waits, the one that began last counts.

        Args:
            phase: BODY or WRITING.
            timeout: seconds that the peer may take.

        Raises:
            Bug: there is no such move; two greenlets read the body, for example.
        """
        before = self.phase
        self.enter(phase, timeout)
        if not self._peer_waits:
            self._between = before
        wait = PeerWait(phase, self.deadline)
        self._peer_waits = (*self._peer_waits, wait)
        return wait

    def end_wait(self, wait: PeerWait) -> None:
        """Go on where the connection was, or with the other wait. What has begun meanwhile stays."""
        self._peer_waits = tuple(other for other in self._peer_waits if other is not wait)
        if self.phase is not wait.phase:
            return
        if self._peer_waits:
            self.enter(self._peer_waits[-1].phase)
            self.idle_until(self._peer_waits[-1].deadline)
        else:
            self.enter(self._between)

    @property
    def is_waited_for(self) -> bool:
        """Whether a greenlet waits for the peer, on behalf of the request."""
        return bool(self._peer_waits)

    def idle_until(self, deadline: float) -> None:
        """Have another deadline in the same phase."""
        self.deadline = deadline

    def hurry(self, deadline: float) -> None:
        """Have no later deadline than this, where there is one."""
        if self.deadline != NEVER:
            self.deadline = min(self.deadline, deadline)

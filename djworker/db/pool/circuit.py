"""When to try the server again: back-off, and an outage answered at once."""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

#: One failure is an accident (a restarting proxy, a full backlog), three in a row are an outage.
OUTAGE_AFTER: Final = 3
#: Seconds. PgBouncer waits `server_login_retry` = 15 s; a request that fails meanwhile is a page that is not served, so we
#: look again within a second: with the jitter, a server that is back is found well within two.
FIRST_RETRY: Final = 0.05
LAST_RETRY: Final = 1.0
#: Seconds. A full server refuses some of a crowd of attempts at once, and the others get in a little later.
HOPE: Final = 1.0


#: Count. Logins in a row that were ended by hand: above, the server counts as gone all the same, for something is wrong with
#: it that more attempts do not mend. They are made one by one by then, so that many are no storm.
MOST_ENDED: Final = 500


class CircuitState(enum.Enum):
    """What the last attempts to connect say about the server."""

    CLOSED = "closed"  # connect as you please, or after the back-off when the last attempt failed
    OPEN = "open"  # an outage: answer at once
    HALF_OPEN = "half-open"  # an outage, and a probe is under way


class Circuit:
    """[worker] Counts failed attempts to connect and says when the next one is due. Pure: time is an argument."""

    __slots__ = (
        "_ended",
        "_hopes",
        "_in_flight",
        "_rng",
        "cause",
        "failed_at",
        "failures",
        "retry_at",
        "since",
        "window",
    )

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._in_flight = 0
        self._hopes = 0  # attempts under way that began before the first failure of the present row
        self._ended = 0  # logins in a row that the server accepted and then ended
        self.failures = 0
        self.since = math.inf  # time of the first failure of the present row
        self.failed_at = -math.inf
        self.retry_at = -math.inf
        self.cause: BaseException | None = None
        # Attempts that may be under way at once. A server that is full lets one in now and then, and one that has just
        # come back has others to serve too: after a failure a pool grows as TCP starts, slowly.
        self.window = math.inf

    @property
    def state(self) -> CircuitState:
        """The state's name, for people; the code asks `failing` and `is_open`."""
        if not self.is_open:
            return CircuitState.CLOSED
        return CircuitState.HALF_OPEN if self._in_flight else CircuitState.OPEN

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed: from here on, one attempt per back-off step."""
        return self.failures > 0

    @property
    def is_open(self) -> bool:
        """Whether the failures amount to an outage."""
        return self.failures >= OUTAGE_AFTER

    def due(self, now: float) -> bool:
        """Whether an attempt may start now."""
        return not self.failing or now >= self.retry_at

    def hopes(self, now: float) -> bool:
        """Whether some that started with those that failed may still succeed."""
        return self._hopes > 0 and now < self.since + HOPE

    def started(self, now: float) -> None:
        """An attempt starts. Its successor waits a step, even if this one hangs."""
        self._in_flight += 1
        if self.failing:
            self.retry_at = now + self._step()

    def failed(self, now: float, cause: BaseException) -> bool:
        """An attempt failed.

        Args:
            now: by the pool's clock.
            cause: what it failed with.

        Returns:
            Whether it is this one that makes it an outage.
        """
        self._in_flight -= 1
        if self.failures:
            self._hopes -= 1
        else:
            self.since, self._hopes = now, self._in_flight
        self.failures += 1
        self.window = 1.0
        self.cause = cause
        self.failed_at = now
        self.retry_at = now + self._step()
        return self.failures == OUTAGE_AFTER

    def succeeded(self) -> bool:
        """An attempt succeeded. True if it ends an outage."""
        self.window *= 2
        self._ended = 0
        return self._answered()

    def ended_by_hand(self) -> bool | None:
        """The server let an attempt in, and that session was ended then: a sign of life, and no reason to wait.

        True if it ends an outage; None if there were too many of them, so that it has to count as a failure.
        """
        self._ended += 1
        # Fewer logins at once take less time each, and get in before the next one is ended.
        self.window = max(1.0, min(self.window, self._in_flight) / 2)
        return None if self._ended > MOST_ENDED else self._answered()

    def forgive(self) -> None:
        """Forget the failures: they came of parameters that are no longer in force."""
        self.failures, self.since, self.retry_at, self.cause = 0, math.inf, -math.inf, None

    def _answered(self) -> bool:
        self._in_flight -= 1
        ended = self.failures >= OUTAGE_AFTER
        self.failures, self.since, self.retry_at, self.cause = 0, math.inf, -math.inf, None
        return ended

    def _step(self) -> float:
        # Full steps would make all workers knock in the same instant after a restart.
        step = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(self.failures - 1, 10))
        return step * self._rng.uniform(0.5, 1.0)

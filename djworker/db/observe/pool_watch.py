"""The watch over a pool: who waits for long, who holds for long, and who idles in a transaction. Looked for at each beat."""

from __future__ import annotations

import logging
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from djworker import log
from djworker.db.observe.labels import frames, view_of
from djworker.db.observe.long_holds import Held, LongHolds
from djworker.db.observe.slow_acquires import SlowAcquires
from djworker.db.pool.driver import C
from djworker.db.pool.stats import Holder, text_of
from djworker.greenlets import MOST_FRAMES
from djworker.ipc.metrics import WAIT_BOUNDS
from djworker.log.throttle import Throttle

if TYPE_CHECKING:
    from greenlet import greenlet

    from djworker.conf.pool_table import PoolOptions
    from djworker.db.pool.pool import Pool
    from djworker.db.pool.slots import Label, Slot

logger = logging.getLogger("djworker.db")

C_contra = TypeVar("C_contra", contravariant=True)

_NUMBERS: Final = ("pool_size", "pool_max", "pool_leased", "pool_available", "requests_waiting")


class Waits:
    """[worker] How long was waited, in buckets of ``WAIT_BOUNDS``, and in all."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(WAIT_BOUNDS) + 1)
        self.seconds = 0.0

    def note(self, seconds: float) -> None:
        """One more."""
        self.buckets[bisect_left(WAIT_BOUNDS, seconds)] += 1
        self.seconds += seconds


class Busy(Protocol[C_contra]):
    """What is asked of a driver here: what a connection is in the middle of. Does not switch, and does not raise."""

    def busy(self, conn: C_contra, /) -> bool:
        """Whether an answer is under way."""
        ...

    def in_transaction(self, conn: C_contra, /) -> bool | None:
        """Whether a transaction is open in the server; None if the library does not tell."""
        ...

    def autocommit(self, conn: C_contra, /) -> bool:
        """The mode."""
        ...


class PoolWatch(Generic[C]):
    """[worker] Looks at one pool. Nothing is asked of the server, and no line is logged while a connection changes hands."""

    pool: Pool[C]  # set by the owner: the pool is made with our `waited`

    def __init__(self, options: PoolOptions, green: Busy[C]) -> None:
        """options: the thresholds; green: the client library's driver."""
        self._green = green
        self._slow = SlowAcquires(options.slow_acquire)
        self._long_holds = LongHolds(options.long_hold, options.idle_in_transaction)
        self._throttle = Throttle()
        self.waits = Waits()
        self._unsaid = 0

    def waited(self, seconds: float, label: Label) -> None:
        """For the pool's `on_wait`."""
        self.waits.note(seconds)
        self._slow.note(seconds, label, self.pool.stats)

    def look(self, now: float) -> None:
        """Log what has come to be too long since the last look. `now`: of the pool's clock."""
        self._tell_slow(now)
        if self._long_holds.wanted:
            self._tell_held(now)

    # -- waiting ----------------------------------------------------------------------------------------------------

    def _tell_slow(self, now: float) -> None:
        slow, others = self._slow.take()
        self._unsaid += others
        for item in slow:
            view = view_of(item.label)
            fields: dict[str, object] = {"waited": round(item.waited, 3)}
            fields |= {
                name.removeprefix("pool_").removeprefix("requests_"): int(item.numbers[name]) for name in _NUMBERS
            }
            text = f"waited {item.waited:.1f} s for a connection"
            self._tell(now, "slow_acquire", text_of(item.label), view, text, fields)

    # -- holding ----------------------------------------------------------------------------------------------------

    def _tell_held(self, now: float) -> None:
        leased = {slot.ticket: slot for slot in self.pool.leased()}
        found = self._long_holds.look(now, [self._held(slot) for slot in leased.values()])
        # All that can change is read before the first line: a handler of the project's may switch greenlets.
        lines = [(finding, *_who(leased[finding.ticket], now)) for finding in found]
        for finding, holder, view, stack in lines:
            fields: dict[str, object] = {"age": round(finding.age, 3), "stack": stack}
            text = f"has held a connection for {finding.age:.1f} s"
            if finding.event == "idle_in_transaction":
                fields["idle"] = round(finding.idle, 3)
                text = f"has run no query for {finding.idle:.1f} s inside a transaction that holds a connection"
            self._tell(now, finding.event, holder.label, view, text, fields)

    def _held(self, slot: Slot[C]) -> Held:
        conn, green = slot.conn, self._green
        busy = green.busy(conn)
        # Without a count (django-db-geventpool's cursors are not ours) it is not known what ran between two looks.
        statements = getattr(getattr(conn, "lease_record", None), "statements", None)
        # In MySQL a transaction begins with the first table that is read; the connection is held since the mode changed.
        inside = statements is not None and not busy and (green.in_transaction(conn) or not green.autocommit(conn))
        return Held(slot.ticket, slot.leased_at, statements or 0, busy, inside)

    def _tell(self, now: float, event: str, who: str, view: str, text: str, fields: dict[str, object]) -> None:
        left_out = self._throttle.admit((event, view), now)
        if left_out is None:
            return
        if event == "slow_acquire":
            left_out, self._unsaid = left_out + self._unsaid, 0
        message = f"pool {self.pool.name!r}: {who} {text}"
        if left_out:
            message += f" ({left_out} more like this were left out)"
        log.event(
            logger, logging.WARNING, event, message, pool=self.pool.name, view=view, **fields, suppressed=left_out
        )


def _who(slot: Slot[C], now: float) -> tuple[Holder, str, str]:
    holder = Holder.of(slot, now)
    return holder, view_of(slot.label), stack_of(holder.owner)


def stack_of(owner: greenlet | None) -> str:
    """Where a greenlet is now, the innermost call last. Reads no source file: that would be I/O in the hub."""
    found = [] if owner is None else list(frames(owner))[:MOST_FRAMES]
    lines = [f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}" for frame in reversed(found)]
    return "\n".join(lines) or "(its greenlet has ended)"

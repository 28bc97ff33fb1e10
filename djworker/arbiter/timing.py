"""The fleet's constants: times in seconds, and how often."""

from __future__ import annotations

from typing import Final

from djworker.ipc.contract import PROBE_MARGIN, PROBE_TIMEOUT

#: Seconds that a worker must live after it was ready before an older one is retired for it. Code that dies 0.3 s after it
#: is ready (a background greenlet that raises) passes every readiness check there is.
PROBATION: Final = 1.0
#: A worker that dies younger than this counts as one more failure of a crash loop.
STABLE: Final = 10.0
#: Failures in a row after which an older mold takes over again.
RETRIES: Final = 3
BACKOFF_FIRST: Final = 0.2
BACKOFF_MOST: Final = 30.0
#: More than it takes from the first to the most; a crash loop of days must not overflow.
BACKOFF_DOUBLINGS: Final = 10
#: A mold that was told to stop has this long; it runs nothing.
MOLD_GRACE: Final = 5.0
#: A mold that is asked what it answers has this long.
PROBE_WAIT: Final = PROBE_TIMEOUT + PROBE_MARGIN
#: What the worker's own watchdog needs, after ``timeout``, to write the stack down before it is killed.
WATCHDOG_MARGIN: Final = 1.0
#: A process that does not even die from SIGKILL (disk sleep) is killed again after this time.
KILL_AGAIN: Final = 5.0
#: Waking up later than this means that the machine, or we, were suspended.
OVERSLEPT: Final = 2.0
#: Molds of older generations that are kept until the newest one is stable.
KEPT_MOLDS: Final = 2

"""When a worker has served enough: by the number of its requests, by its age, or by the memory that it has come to hold."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from djworker import process

if TYPE_CHECKING:
    from collections.abc import Callable

    from djworker.conf.table import Config

#: Looks in a row at which a worker has too much memory: one request's peak is no leak.
SAMPLES: Final = 3
#: Part of max_lifetime by which workers that were started together may end earlier.
SPREAD: Final = 0.1


class Recycling:
    """[worker] Judges a worker by its own measures; the arbiter brings the replacement first, one at a time."""

    def __init__(
        self, config: Config, fresh_memory: int, began: float, pss: Callable[[], int] = process.pss_bytes
    ) -> None:
        """Begin with no request served.

        Args:
            config: the limits.
            fresh_memory: bytes of this worker before its first request, as ``pss`` counts.
            began: when it was forked, seconds of any clock.
            pss: bytes that it has now, shared pages in parts; 0 where the system does not tell.
        """
        self.fresh_memory = fresh_memory
        self.max_memory = config.max_memory
        self._max_requests = _with_jitter(config)
        self._ends = began + config.max_lifetime * random.uniform(1 - SPREAD, 1) if config.max_lifetime else 0.0  # noqa: S311 - jitter, not a secret
        self._pss = pss
        self._too_big = 0

    @property
    def pointless(self) -> bool:
        """Whether every replacement would be too big from the start; workers would be replaced without end."""
        return 0 < self.max_memory <= self.fresh_memory

    def weigh(self, resident: int) -> None:
        """Take a look at memory. resident: bytes, shared pages included, which costs next to nothing to know."""
        if not self.max_memory or resident <= self.max_memory or self.pointless:
            self._too_big = 0
            return
        held = self._pss() or resident
        self._too_big = self._too_big + 1 if held > self.max_memory else 0

    def reason(self, requests: int, now: float) -> str | None:
        """Why this worker is to be replaced, or None. now: of the clock of ``began``."""
        if self._max_requests and requests >= self._max_requests:
            return "max_requests"
        if self._ends and now >= self._ends:
            return "max_lifetime"
        return "max_memory" if self._too_big >= SAMPLES else None


def _with_jitter(config: Config) -> int:
    """Keep workers that were started together from reaching the limit all at once."""
    if not config.max_requests:
        return 0
    return config.max_requests + random.randint(0, config.max_requests_jitter)  # noqa: S311 - jitter, not a secret

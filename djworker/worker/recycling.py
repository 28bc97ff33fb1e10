"""When a worker has served enough: by the number of its requests, or by the memory that it has come to hold."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djworker.conf.table import Config


class Recycling:
    """[worker] Judges a worker by its own measures; the arbiter brings the replacement first, one at a time."""

    def __init__(self, config: Config, fresh_memory: int) -> None:
        """fresh_memory: resident bytes of this worker before its first request."""
        self.fresh_memory = fresh_memory
        self.max_memory = config.max_memory
        self._max_requests = _with_jitter(config)

    @property
    def pointless(self) -> bool:
        """Whether every replacement would be too big from the start; workers would be replaced without end."""
        return 0 < self.max_memory <= self.fresh_memory

    def reason(self, requests: int, memory: int) -> str | None:
        """Why this worker is to be replaced, or None."""
        if self._max_requests and requests >= self._max_requests:
            return "max_requests"
        if self.max_memory and memory > self.max_memory and not self.pointless:
            return "max_memory"
        return None


def _with_jitter(config: Config) -> int:
    """Keep workers that were started together from reaching the limit all at once."""
    if not config.max_requests:
        return 0
    return config.max_requests + random.randint(0, config.max_requests_jitter)  # noqa: S311

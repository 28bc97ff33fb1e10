"""The numbers a pool is given, checked together. `conf.pool_table` has the defaults of those that are options."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from djworker.conf.pool_table import CONNECT_TIMEOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes are counts of connections, times are seconds; 0 switches a life, idle or queue limit off.

    `timeout` is the longest wait for a connection; `check_after` the quiet time after which a connection is checked before it
    is lent; `connect_timeout` ends a connect, `io_timeout` any other round trip of the pool's own (cancel and close get twice
    as long).

    Raises:
        ValueError: lists all problems at once.
    """

    min_size: int
    max_size: int
    timeout: float
    max_waiting: int
    max_lifetime: float
    max_idle: float
    check_after: float
    connect_timeout: float = CONNECT_TIMEOUT
    io_timeout: float = 5.0

    def __post_init__(self) -> None:
        problems = [
            f"{field.name}={getattr(self, field.name)!r} is negative"
            for field in fields(self)
            if not getattr(self, field.name) >= 0  # so that NaN is refused too
        ]
        if self.max_size < 1:
            problems.append(f"max_size={self.max_size!r}: a pool needs at least one connection")
        if self.min_size > self.max_size:
            problems.append(f"min_size={self.min_size!r} is above max_size={self.max_size!r}")
        problems += [
            f"{name}=0: nothing could ever finish in time"
            for name in ("connect_timeout", "io_timeout")
            if not getattr(self, name)
        ]
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def idle_life(self) -> float:
        """How long a connection may be idle."""
        return self.max_idle or math.inf

    def expires(self, born: float, luck: float) -> float:
        """End of a connection's life; `luck` in 0..1 takes up to a tenth off.

        Connections that were born together (at the start, after an outage) must not die together.
        """
        return born + (self.max_lifetime or math.inf) * (1.0 - 0.1 * luck)

"""What the parts of one pool share."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic

from djworker.db.pool.driver import C, Driver
from djworker.db.pool.stats import Tally

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from djworker.db.pool.errors import Refusals

    Notify = Callable[..., None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms(Generic[C]):
    """[worker] A pool's collaborators, given once by its owner."""

    name: str
    driver: Driver[C]
    refusals: Refusals
    notify: Notify | None
    clock: Callable[[], float]
    rng: Random
    tally: Tally = field(default_factory=Tally)

    def tell(self, event: str, message: str, **fields: object) -> None:
        """For the log: whatever it does, it must not hurt the pool."""
        if self.notify is not None:
            with contextlib.suppress(Exception):
                self.notify(event, f"pool {self.name!r}: {message}", pool=self.name, **fields)

"""One process of the arbiter's: what it is, its pid, and what is shared with it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from djworker.arbiter.intake import Intake, Kind

if TYPE_CHECKING:
    from djworker.ipc.channel import Channel
    from djworker.ipc.scoreboard import Gauge, Row

__all__ = ["Child", "Key"]

#: What a process is, and its number: a mold's generation, a worker's id.
Key = tuple[Kind, int]


@dataclass(slots=True)
class Child:
    """[arbiter] A process of ours. ``pid`` is 0 until the mold has told it, or the worker has spoken itself."""

    key: Key
    pid: int = 0
    channel: Channel | None = None
    slot: int = -1
    #: A worker's part of the scoreboard.
    row: Row | None = None
    #: A signal that came before the pid was known.
    doomed: bool = False
    #: Why a worker is to be replaced, as far as that was said.
    cause: str = ""
    #: It is dead, and the kernel may have given its pid to a stranger.
    reaped: bool = False
    #: A file in memory where a mold that hangs writes its stacks.
    stacks: int = -1
    intake: Intake = field(init=False)

    def __post_init__(self) -> None:
        self.intake = Intake(self.key[0])

    def reads(self, gauge: Gauge) -> int:
        """What its row says; 0 where it has none."""
        return self.row[gauge] if self.row is not None else 0

    def close(self) -> None:
        """Give back the descriptors."""
        if self.channel is not None:
            self.channel.close()
        if self.row is not None:
            self.row.close()
        if self.stacks >= 0:
            os.close(self.stacks)
            self.stacks = -1

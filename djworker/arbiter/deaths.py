"""Which processes have died, told to the project: its receivers run in a child of the mold, so none of its code runs here."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from djworker.ipc import messages

if TYPE_CHECKING:
    from djworker.arbiter.children import Children

#: Deaths that wait for a mold. A fleet that cannot boot must not fill the memory; the latest ones are kept.
_MOST_KEPT: Final = 256


@dataclass(slots=True)
class Deaths:
    """[arbiter] What no mold has been told yet."""

    waiting: deque[messages.ProcessGone] = field(default_factory=lambda: deque(maxlen=_MOST_KEPT))

    def note(self, kind: str, pid: int, generation: int, status: int) -> None:
        """One more. Without a pid it has never lived."""
        if pid:
            self.waiting.append(messages.ProcessGone(kind, pid, generation, status))

    def tell(self, children: Children, generation: int) -> None:
        """Tell the mold of *generation*, if it has loaded its code; else they wait."""
        mold = children.by_key.get(("mold", generation))
        if mold is None or mold.channel is None or generation in children.loading:
            return
        while self.waiting:
            mold.channel.send(self.waiting.popleft())

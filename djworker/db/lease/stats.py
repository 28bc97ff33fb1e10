"""What the leases of one pool count."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from djworker.db.observe.labels import Label

VIEWS: Final = 1000  # different pairs of reason and view; what is above is counted under the reason alone


@dataclass(slots=True)
class LeaseCounters:
    """[worker] Counters since the pool was made."""

    pins: Counter[str] = field(default_factory=Counter)  # by reason
    pins_by_view: Counter[tuple[str, str]] = field(default_factory=Counter)
    replays: int = 0
    read_backs_lost: int = 0
    lost: int = 0

    def pinned(self, reason: str, label: Label) -> None:
        """Count a pin. By view: paths have numbers in them, and are as many as rows."""
        self.pins[reason] += 1
        view = label.view if len(self.pins_by_view) < VIEWS else ""
        self.pins_by_view[reason, view] += 1

    def as_dict(self) -> dict[str, float]:
        """Sums, beside the pool's."""
        return {
            "lease_pins": float(self.pins.total()),
            "lease_replays": float(self.replays),
            "lease_read_backs_lost": float(self.read_backs_lost),
            "lease_lost": float(self.lost),
        }

"""[mold, and its children] The loop of a hub that has ended: that of the hub which turns now, or of the next one.

A queue of gevent's keeps to the hub in which it was made, and asks that for its loop when it has to wake a greenlet that waits
for it (``queue.SimpleQueue``, and so every executor). Those that a project makes while it loads outlive the mold's hub.
"""

from __future__ import annotations

from typing import Any

from gevent import get_hub


class LaterLoop:
    """[mold, worker, a worker's child] Stands in for a loop of gevent's; a hub is made where there is none."""

    #: By this gevent knows a loop.
    run = None

    def __getattr__(self, name: str) -> Any:
        return getattr(get_hub().loop, name)

"""After a planned failover: a server that has become read-only, and when to look for the one that takes writes."""

from __future__ import annotations

import math
from typing import Final

#: Seconds. While new connections are read-only too (a replica, a name that has not moved yet) one is made per step to find
#: out: with the last step and a login, writes work well within two seconds after the name has moved.
FIRST_LOOK: Final = 0.25
LAST_LOOK: Final = 1.0
#: Seconds. A server that says good-bye does so on each connection; all are replaced for the first, and none for the others.
RENEWAL: Final = 1.0
#: Seconds after a recovery. A session that refuses then was on its way to the old server: it is replaced, and that is no news.
STRAGGLERS: Final = 2.0


class Standby:
    """[worker] What is known of the server's willingness, for one pool. Pure: time is an argument."""

    __slots__ = ("_look_at", "_recovered_at", "_renewed_at", "_step", "refusing")

    def __init__(self) -> None:
        self.refusing = False  # the newest connection that was asked is read-only
        self._step = FIRST_LOOK
        self._look_at = -math.inf
        self._renewed_at = -math.inf
        self._recovered_at = -math.inf

    def may_look(self, now: float) -> bool:
        """A write was refused. Whether to ask the server, and to replace that connection if the server means it."""
        if now < self._look_at:
            return False
        self._look_at = now + self._step
        return True

    def answered(self, *, refuses: bool, now: float) -> bool:
        """The server was asked on a connection. Whether the answer is a change."""
        if refuses and not self.refusing and now < self._recovered_at + STRAGGLERS:
            return False
        changed = refuses is not self.refusing
        if changed and not refuses:
            self._recovered_at = now
        self._step = min(self._step * 2, LAST_LOOK) if refuses and not changed else FIRST_LOOK
        self.refusing = refuses
        return changed

    def may_renew(self, now: float) -> bool:
        """The server says that it leaves. Whether to replace the other connections for it."""
        if now < self._renewed_at + RENEWAL:
            return False
        self._renewed_at = now
        return True

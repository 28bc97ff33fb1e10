"""One bound for several pools: databases of one server that are told apart by the settings of one alias, for example.

Each pool goes on by itself while there is room. When there is none, the idle connection that was used the longest ago is
given up for the pool that lacks one, whichever has it. Where none is idle, waiters of all these pools are served in order
of arrival: a connection that comes back is closed for an earlier waiter of another pool. Alone, a pool has no such bound,
and its uncontended path knows nothing of one.
"""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Member(Protocol):
    """What a bound asks of a pool's scheduler. See there; nothing of it switches greenlets."""

    @property
    def max_size(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def oldest(self) -> float: ...
    @property
    def lacking(self) -> int: ...
    @property
    def next_lacking(self) -> float: ...
    @property
    def has_idle(self) -> bool: ...
    @property
    def idle_longest(self) -> float: ...
    @property
    def leaving(self) -> int: ...
    def share(self, bound: Bound, /) -> None: ...
    def lacking_since(self, when: float, /) -> int: ...
    def grow_for_waiter(self, now: float, /) -> bool: ...
    def give_up_idle(self, now: float, /) -> None: ...
    def serve(self, now: float, /) -> None: ...
    def keep_idle(self, wanted: bool, /) -> None: ...  # noqa: FBT001 - its only argument


class Bound:
    """[worker] The pools that share a bound: that of the largest of them."""

    def __init__(self) -> None:
        self._members: weakref.WeakSet[_Member] = weakref.WeakSet()

    def __len__(self) -> int:
        return len(self._members)

    def add(self, member: _Member) -> None:
        """From now on it shares."""
        self._members.add(member)
        if len(self._members) > 1:
            for each in self._members:
                each.share(self)

    @property
    def limit(self) -> int:
        """Connections that all members together may have."""
        return max(member.max_size for member in self._members)

    @property
    def has_room(self) -> bool:
        """Whether another connection may be made."""
        return sum(member.size for member in self._members) < self.limit

    def owes(self, member: _Member) -> bool:
        """Whether a waiter of another pool came before all of this one's, and no connection is on its way out for it."""
        since = member.oldest
        earlier = sum(other.lacking_since(since) for other in self._members if other is not member)
        return earlier > self._leaving() and not self.has_room

    def distribute(self, now: float) -> None:
        """Use the room that there is for the requests that have waited for longest."""
        able = list(self._members)
        while able and self.has_room:
            first = min(able, key=lambda member: member.next_lacking)
            if first.next_lacking == math.inf:
                return
            if not first.grow_for_waiter(now):
                able.remove(first)

    def make_room(self, member: _Member, now: float) -> None:
        """Give up idle connections of the others, for what this one lacks."""
        for _ in range(member.lacking - self._leaving()):
            found = [(other.idle_longest, other) for other in self._members if other is not member and other.has_idle]
            if not found:
                break
            min(found, key=lambda pair: pair[0])[1].give_up_idle(now)
        self.review()

    def changed(self, member: _Member, now: float) -> None:
        """A member may have made room: the others look again."""
        for other in list(self._members):
            if other is not member and other.lacking > 0 and self.has_room:
                other.serve(now)
        self.review()

    def review(self) -> None:
        """Let connections be idle, or not: not while a waiter of another pool lacks one and there is no room."""
        hungry = [member for member in self._members if member.lacking > 0] if not self.has_room else []
        for member in self._members:
            member.keep_idle(hungry in ([], [member]))

    def _leaving(self) -> int:
        return sum(member.leaving for member in self._members)

    def __iter__(self) -> Iterator[_Member]:
        return iter(self._members)

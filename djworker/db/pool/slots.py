"""A slot is the right to one physical connection; the ledger is the one door through which it changes state."""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Final, Generic

from djworker.bug import Bug
from djworker.db.pool.driver import C

if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable, Iterator

    from greenlet import greenlet

    from djworker.db.pool.tasks import Task

    Label = str | Callable[[], str] | None


class SlotState(enum.IntEnum):
    """Where a slot is. Each state but the last corresponds to a list in the ledger (pgbouncer's rule)."""

    CONNECTING = 0  # reserved before the connect, so that the bound holds while it is under way
    IDLE = 1
    CHECKING = 2  # quiet for long: the server is asked for a sign of life
    OFFERED = 3  # given to a waiter that has not woken up yet
    LEASED = 4
    RESETTING = 5
    CANCELLING = 6  # an abandoned query still runs in the server: the slot stays taken until it is gone
    CLOSING = 7
    GONE = 8


_GONE: Final = SlotState.GONE
_CONNECTING, _CHECKING, _RESETTING = SlotState.CONNECTING, SlotState.CHECKING, SlotState.RESETTING
_CANCELLING, _CLOSING = SlotState.CANCELLING, SlotState.CLOSING
_S = SlotState
_NEXT: dict[SlotState, frozenset[SlotState]] = {
    _S.CONNECTING: frozenset({_S.OFFERED, _S.IDLE, _S.CLOSING, _S.GONE}),
    _S.IDLE: frozenset({_S.LEASED, _S.CHECKING, _S.OFFERED, _S.CLOSING}),
    _S.CHECKING: frozenset({_S.OFFERED, _S.IDLE, _S.CLOSING}),
    _S.OFFERED: frozenset({_S.LEASED, _S.OFFERED, _S.IDLE, _S.CLOSING}),
    _S.LEASED: frozenset({_S.IDLE, _S.OFFERED, _S.RESETTING, _S.CANCELLING, _S.CLOSING}),
    _S.RESETTING: frozenset({_S.OFFERED, _S.IDLE, _S.CLOSING}),
    _S.CANCELLING: frozenset({_S.CLOSING}),
    _S.CLOSING: frozenset({_S.GONE}),
    _S.GONE: frozenset(),
}


class Slot(Generic[C]):
    """[worker] One physical connection, or the room reserved for it."""

    __slots__ = (
        "_on_owner_death",
        "conn",
        "expires",
        "fresh_until",
        "idle_since",
        "label",
        "leased_at",
        "next",
        "owner",
        "shelf",
        "state",
        "task",
        "ticket",
    )

    shelf: dict[Slot[C], None]  # the list of its state
    conn: C  # set once the connect has succeeded: to read it earlier is a bug, and says so

    def __init__(self, on_owner_death: Callable[[Slot[C]], None]) -> None:
        self.state = SlotState.CONNECTING
        self.next = _NEXT[SlotState.CONNECTING]
        self._on_owner_death = on_owner_death
        self.task: Task | None = None  # the last background job on it
        self.expires = math.inf  # end of its life; doomed when that is in the past, whatever the state
        self.idle_since = -math.inf
        self.fresh_until = -math.inf  # may be lent without a check until then
        # Of the present lease; the ticket is 0 when there is none.
        self.ticket = 0
        self.owner: weakref.ref[greenlet] | None = None
        self.label: Label = None
        self.leased_at = 0.0

    def __repr__(self) -> str:
        return f"<slot {self.state.name} of {getattr(self, 'conn', None)!r}, ticket {self.ticket}>"

    @property
    def doomed(self) -> bool:
        """Whether it shall not be lent again."""
        return self.expires == -math.inf or self.state in (SlotState.CANCELLING, SlotState.CLOSING)

    def __call__(self, owner: greenlet) -> None:
        """The owner's greenlet ended (`Greenlet.rawlink` calls its link with it): in the hub, must not switch.

        The slot itself is the link: nothing is allocated per lease.
        """
        if self.state is SlotState.LEASED and self.owner is not None and self.owner() is owner:
            self._on_owner_death(self)


class Ledger(Generic[C]):
    """[worker] All slots, by state. Gauges are lengths of its lists."""

    __slots__ = ("by_conn", "lists")

    def __repr__(self) -> str:
        there = {state.name.lower(): len(list_) for state, list_ in zip(SlotState, self.lists, strict=False) if list_}
        return f"<ledger {there}>"

    def __init__(self) -> None:
        self.lists: tuple[dict[Slot[C], None], ...] = tuple({} for _ in SlotState)[:-1]
        self.by_conn: dict[C, Slot[C]] = {}

    @property
    def size(self) -> int:
        """Connections the server may know of, those included that are only reserved or not gone yet."""
        return sum(map(len, self.lists))

    def count(self, *states: SlotState) -> int:
        """How many slots are in one of these states."""
        return sum(map(len, map(self.lists.__getitem__, states)))

    def __iter__(self) -> Iterator[Slot[C]]:
        return (slot for list_ in self.lists for slot in list_)

    @property
    def on_its_way(self) -> int:
        """Connections that may soon serve a waiter, so that no further one need be made for it."""
        lists = self.lists  # asked for every waiter
        return len(lists[_CONNECTING]) + len(lists[_CHECKING]) + len(lists[_RESETTING])

    @property
    def live(self) -> int:
        """Connections that are, or soon may be, of use: without those on their way out."""
        lists = self.lists
        return sum(map(len, lists)) - len(lists[_CANCELLING]) - len(lists[_CLOSING])

    def add(self, slot: Slot[C]) -> None:
        """Reserve: a new slot starts in CONNECTING."""
        slot.shelf = self.lists[slot.state]
        slot.shelf[slot] = None

    def connected(self, slot: Slot[C], conn: C) -> None:
        """The slot's connect succeeded."""
        if conn in self.by_conn:
            msg = f"bug: the driver connected {conn!r} twice"
            raise Bug(msg)
        slot.conn = conn
        self.by_conn[conn] = slot

    def move(self, slot: Slot[C], state: SlotState) -> None:
        """The only door between states."""
        if state not in slot.next:
            msg = f"bug: a slot cannot go from {slot.state.name} to {state.name}"
            raise Bug(msg)
        del slot.shelf[slot]
        slot.state = state
        slot.next = _NEXT[state]
        if state is _GONE:
            if hasattr(slot, "conn"):
                del self.by_conn[slot.conn]
        else:
            slot.shelf = shelf = self.lists[state]
            shelf[slot] = None

    def abandon(self) -> list[C]:
        """After a fork: forget all slots, and return the connections that are the parent's."""
        conns = list(self.by_conn)
        for slot in self:
            slot.state = SlotState.GONE
            slot.ticket = 0
        for list_ in self.lists:
            list_.clear()
        self.by_conn.clear()
        return conns

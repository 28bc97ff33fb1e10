"""Waiting for a descriptor in gevent's hub, with watchers that are made once per connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gevent import get_hub
from gevent.exceptions import InvalidSwitchError
from gevent.hub import Waiter

from djworker import process

if TYPE_CHECKING:
    from gevent._types import _IoWatcher
    from gevent.hub import Hub

READ: Final = 1  # libev's EV_READ and EV_WRITE; psycopg's Wait and Ready use the same bits
WRITE: Final = 2

_poll: Any = process.unpatched("select", "poll")


class Watch:
    """[worker] The io watchers of one connection's descriptor.

    gevent's own `wait_read` makes and closes a watcher for each wait; psycopg under gevent makes a poll object and wakes
    up ten times a second. A watcher that stays costs a start and a stop.
    """

    __slots__ = ("_hub", "_poll", "_watchers", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._hub: Hub | None = None
        self._watchers: dict[int, Any] = {}
        self._poll: Any = None

    def wait(self, events: int) -> int:
        """Sleep until the descriptor is ready for `events` (READ | WRITE); the events it is ready for.

        Raises what is thrown into the greenlet meanwhile: the error of `close()`, a `gevent.Timeout`, `GreenletExit`.
        """
        hub = get_hub()
        if hub is not self._hub:
            self._move(hub)
        watcher = self._watchers.get(events)
        if watcher is None:
            watcher = self._watchers[events] = hub.loop.io(self.fd, events)
        if events != READ | WRITE:
            hub.wait(watcher)
            return events
        return self._wait_for_either(hub, watcher)

    @staticmethod
    def _wait_for_either(hub: Hub, watcher: _IoWatcher) -> int:
        waiter: Waiter[object] = Waiter(hub)
        watcher.start(waiter.switch, pass_events=True)
        try:
            ready = waiter.get()
        finally:
            watcher.stop()
        if type(ready) is not int:
            msg = f"switched into a wait for a database socket by {ready!r}"
            raise InvalidSwitchError(msg)
        # libev reports an error of the descriptor as every event that was asked for.
        return ready & (READ | WRITE) or READ | WRITE

    def _move(self, hub: Hub) -> None:
        # A connection made in one thread is used in another (a thread pool of the application): each has its own hub.
        self.close()
        self._hub = hub

    def readable(self) -> bool:
        """Whether something can be read right now: bytes, the end, or an error. Does not switch."""
        if self._poll is None:
            self._poll = _poll()
            self._poll.register(self.fd, 1)  # POLLIN; POLLHUP and POLLERR always count
        return bool(self._poll.poll(0))

    def close(self, error: Exception | None = None) -> None:
        """Close the watchers. A greenlet that still waits on one gets `error`. Does not switch."""
        watchers, self._watchers = self._watchers, {}
        hub, self._hub = self._hub, None
        for watcher in watchers.values():
            if watcher.callback is None or error is None or hub is None:
                watcher.close()
            else:
                hub.cancel_wait(watcher, error, close_watcher=True)

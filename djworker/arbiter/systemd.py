"""The arbiter's word to systemd: READY, RELOADING, STOPPING, WATCHDOG, STATUS (sd_notify(3)), each said only when true."""

from __future__ import annotations

import socket
import time
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Ping twice as often as systemd asks, as sd_watchdog_enabled(3) advises.
_SHARE: Final = 0.5
#: Seconds within which a hub that turns has beaten in any case: four of its beats.
_BEATS: Final = 2.0
#: Seconds that the arbiter waits, once, for a supervisor whose socket is full. The kernel keeps 10 words, on many systems 512.
_FULL: Final = 0.5
#: Seconds until the hubs are looked at again, where none has beaten.
_LOOK_AGAIN: Final = 0.5
_MICROSECOND: Final = 1e-6


class Systemd:
    """[arbiter] The notification socket, or nothing at all when systemd did not start us."""

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        self._path = environ.get("NOTIFY_SOCKET", "")
        self._interval = _watchdog_interval(environ, pid)
        self._next_ping = -inf
        self._status = ""
        #: Its socket was full the last time, for as long as we wait.
        self._reads_nothing = False
        self.ready = False

    def tell_ready(self) -> None:
        """The first worker accepts, or a reload is over, whether it succeeded or not: the service is what it was."""
        self.ready = True
        self._send("READY=1")

    def tell_reloading(self) -> None:
        """Type=notify-reload needs the time, to tell this reload from an earlier one."""
        if self.ready:
            self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def tell_stopping(self) -> None:
        """No READY will follow."""
        self.ready = False
        self._send("STOPPING=1")

    def tell_status(self, text: str) -> None:
        """One line for ``systemctl status``; sent when it changes. A second line would be another word to systemd."""
        text = " ".join(text.split())
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def keep_alive(self, now: float, beat: float) -> None:
        """Pet the watchdog, when it is time and a hub has turned since the last time.

        An arbiter that is well vouches for nothing: where the hubs of all workers are blocked, no client is answered.

        Args:
            now: seconds of the monotonic clock.
            beat: when the hub of a worker that accepts last turned, on the same clock.
        """
        if now < self._next_ping or self._interval == inf:
            return
        if now - beat > max(self._interval, _BEATS):
            self._next_ping = now + min(self._interval, _LOOK_AGAIN)
            return
        self._next_ping = now + self._interval
        self._send("WATCHDOG=1")

    def next_ping(self) -> float:
        """When ``keep_alive`` is due."""
        return self._next_ping if self._interval < inf else inf

    def _send(self, state: str) -> None:
        if not self._path:
            return
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0)) as sock:
                sock.settimeout(0 if self._reads_nothing else _FULL)
                sock.sendto(state.encode(), address)
        except OSError as error:  # a supervisor that does not listen is not our service's failure
            self._reads_nothing = isinstance(error, TimeoutError | BlockingIOError)
        else:
            self._reads_nothing = False


def _watchdog_interval(environ: Mapping[str, str], pid: int) -> float:
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return inf
    try:
        return int(environ["WATCHDOG_USEC"]) * _MICROSECOND * _SHARE
    except (KeyError, ValueError):
        return inf

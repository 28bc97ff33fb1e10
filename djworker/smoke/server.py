"""The server that is tried: an ordinary one, started as a child of this process."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from djworker import process
from djworker.control import gathering
from djworker.control.client import ControlConnection, UnreachableError
from djworker.control.places import places
from djworker.smoke import kernel
from djworker.smoke.events import Events

__all__ = ["OVERRIDDEN", "TriedServer", "eventually"]

#: Where it listens, how it logs, and what would replace workers, or delay the end, while the smoke test looks at them.
OVERRIDDEN: Final = (
    *("--bind=127.0.0.1:0", "--status-bind=", "--control=auto", "--pid=", "--access-log="),
    *("--log-format=json", "--log-level=info", "--no-reload", "--shutdown-delay=0", "--canary=0"),
    *("--max-requests=0", "--max-memory=0", "--max-lifetime=0"),
)
#: Known by it are all processes that the server leaves behind. Not DJWORKER_...: such names are options.
_MARK: Final = "SMOKE_TEST_ID"
#: Seconds between two looks at what no event tells of.
_LOOK: Final = 0.02

Found = TypeVar("Found")


class TriedServer:
    """[smoke] An arbiter and everything below it. command: the program and its words, without ``--smoke``."""

    def __init__(self, command: Sequence[str]) -> None:
        self._mark = f"{_MARK}={secrets.token_hex(8)}"
        parent = os.getpid()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LISTEN_", "NOTIFY_"))}
        self._process = subprocess.Popen(  # noqa: S603 - the same program as this one
            [*command, *OVERRIDDEN],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=inherited | dict([self._mark.split("=")]),
            start_new_session=True,
            preexec_fn=lambda: process.die_with(parent),  # noqa: PLW1509 - no thread runs yet
        )
        self.pid = self._process.pid
        assert self._process.stderr is not None  # noqa: S101 - it is a pipe
        self.events = Events(self._process.stderr)

    @property
    def code(self) -> int | None:
        """Its exit code, once it has ended."""
        return self._process.poll()

    def first(self, name: str) -> dict[str, Any]:
        """The first event of this name, or nothing."""
        return next(iter(self.events.find(name)), {})

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(str(self.first("listening")["address"]).rpartition(":")[2])

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Ask its control socket.

        Raises:
            UnreachableError: it has none, or does not answer.
            RefusedError: it will not.
        """
        place = next((place for place in places() if place.pid == self.pid), None)
        if place is None:
            raise UnreachableError(f"the server has no control socket; its exit code is {self.code}")
        with ControlConnection(place.address) as connection:
            return gathering.ask(connection, verb, arguments)

    def ready(self) -> dict[int, dict[str, Any]]:
        """Return the workers that serve, by their process ids; nothing while fewer run than there should be, or more."""
        status = self.ask("status")
        workers = {worker["pid"]: worker for worker in status["workers"] if worker["state"] == "ready"}
        whole = len(workers) == len(status["workers"]) == status["workers_wanted"] and not status["rolling"]
        return workers if whole else {}

    def send(self, number: signal.Signals) -> None:
        """Send the arbiter a signal."""
        self._process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Wait for its end; whether it has come."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.code is not None

    def left(self) -> dict[int, str]:
        """All living processes of it with their titles, children of the project included."""
        return {pid: kernel.title(pid) for pid in kernel.marked(self._mark, self.pid)}

    def kill(self) -> None:
        """Leave nothing behind."""
        if self.code is None:
            self._process.kill()
            self._process.wait()
        for pid in self.left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def eventually(look: Callable[[], Found], seconds: float) -> Found:
    """Look again and again until there is something to see, or the time is over; the last look."""
    deadline = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(_LOOK)
    return found

"""Server processes of tests, forked off one that has imported everything: a twentieth of the work of a start."""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

#: Longer than any message of this protocol.
MESSAGE = 65_536


class Template:
    """The process that forks: ``python -m tests.http.serve fork DESCRIPTOR``. It has neither a hub nor a thread."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.http.serve", "fork", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self.close)

    def ask(self, question: Mapping[str, Any], descriptors: Sequence[int] = (), timeout: float | None = None) -> int:
        """A number for a question."""
        socket.send_fds(self._socket, [json.dumps(question).encode()], descriptors)
        return self.hear(timeout)

    def hear(self, timeout: float | None = None) -> int:
        """The number for a question that was asked. Raises TimeoutError; then it is still to be heard."""
        self._socket.settimeout(timeout)
        return int(self._socket.recv(MESSAGE))

    def close(self) -> None:
        """End it: it hears the end of the connection."""
        self._socket.close()
        self._process.wait()


@functools.cache
def template() -> Template:
    """The one of this process."""
    return Template()


class Forked:
    """A process of the template's, with as much of ``subprocess.Popen`` as is needed here."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        ends = [os.pipe(), os.pipe(), os.pipe()]
        theirs = [ends[0][0], ends[1][1], ends[2][1]]
        self.pid = template().ask({"fork": options}, theirs)
        for descriptor in theirs:
            os.close(descriptor)
        self.stdin = os.fdopen(ends[0][1], "w")
        self.stdout = os.fdopen(ends[1][0])
        self.stderr = os.fdopen(ends[2][0])

    def wait(self, timeout: float) -> int:
        """Wait for its end; its exit code. One that does not end is killed, and TimeoutError raised."""
        try:
            return template().ask({"wait": self.pid}, timeout=timeout)
        except TimeoutError:
            os.kill(self.pid, signal.SIGKILL)  # nobody has waited for it, so its number is its own
            template().hear()
            raise

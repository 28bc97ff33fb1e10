"""Processes of tests, forked off one that has imported everything, as djworker's mold forks workers.

To start, to patch and to import takes 0.3 s of CPU. A module that is run so (`python -m MODULE DESCRIPTOR`) imports what all of
its processes need, and calls `serve_forks`, which returns in each of them.
"""

from __future__ import annotations

import _socket
import array
import atexit
import functools
import gc
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

__all__ = ["Forked", "command", "serve_forks", "template"]

ROOT = Path(__file__).parents[1]
#: An order: the verb, and which child it is about. Its answer is a number.
_ORDER = struct.Struct("!4sq")
_ANSWER = struct.Struct("!q")
_RUNS = -(1 << 32)  # no exit status
#: Descriptors that may travel with an order: the three standard streams.
_STREAMS = 3
_PAUSE = 0.005  # seconds between two looks at whether a child has ended


def command(module: str, *words: str) -> list[str]:
    """The command line of a test's module."""
    return [sys.executable, "-W", "error", "-m", module, *words]


class Template:
    """pytest's side of the process that forks, and is told of the ends."""

    def __init__(self, module: str) -> None:
        self._line, theirs = socket.socketpair()
        with theirs:
            fd = theirs.fileno()
            self._process = subprocess.Popen(
                command(module, str(fd)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[fd], cwd=ROOT
            )
        atexit.register(self.close)

    def ask(self, verb: bytes, pid: int = 0, *streams: int) -> int:
        """One order, and what came of it. Raises EOFError where the process is gone."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", streams))] if streams else []
        self._line.sendmsg([_ORDER.pack(verb, pid)], rights)
        answer = self._line.recv(_ANSWER.size, socket.MSG_WAITALL)
        if len(answer) < _ANSWER.size:
            raise EOFError(f"the process that forks died: status {self._process.wait()}")
        return int(_ANSWER.unpack(answer)[0])

    def close(self) -> None:
        """End it."""
        self._line.close()
        with self._process:
            self._process.kill()


@functools.cache
def template(module: str) -> Template:
    """The one of this process for a module."""
    return Template(module)


class Forked:
    """A child of the template, with the verbs of a `subprocess.Popen`."""

    def __init__(self, module: str, *streams: int) -> None:
        """streams: the descriptors of its standard input, output and, if it is to have its own, errors."""
        self._template = template(module)
        self.pid = self._template.ask(b"fork", 0, *streams)
        self._status = _RUNS

    def _ask(self, verb: bytes) -> None:
        if self._status == _RUNS:  # its number is nobody else's: only the template waits for it
            self._status = self._template.ask(verb, self.pid)

    def poll(self) -> int | None:
        """The exit status of one that has ended."""
        self._ask(b"poll")
        return None if self._status == _RUNS else self._status

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status. One that does not end in time (seconds) is killed, and TimeoutError raised."""
        if timeout is None:
            self._ask(b"wait")
            return self._status
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"process {self.pid} has not ended within {timeout:g} s")
            time.sleep(_PAUSE)
        return self._status

    def kill(self) -> None:
        """End it at once, and wait for that."""
        self._ask(b"kill")


def serve_forks(descriptor: int) -> None:
    """[template] Obey pytest until it is gone. Returns in each child, with the streams that came for it.

    What was imported is not looked at by the collector again. There may be neither a hub nor a thread: no fork can copy them.
    """
    from gevent._hub_local import get_hub_if_exists

    assert get_hub_if_exists() is None
    assert threading.active_count() == 1
    gc.collect()
    gc.freeze()
    line = _socket.socket(fileno=descriptor)  # gevent's would want a hub
    while True:
        order, ancillary, *_ = line.recvmsg(_ORDER.size, socket.CMSG_SPACE(_STREAMS * array.array("i").itemsize))
        if not order:
            os._exit(0)  # nothing of what was imported for others is to be torn down
        verb, pid = _ORDER.unpack(order)
        if verb != b"fork":
            line.sendall(_ANSWER.pack(_status_of(verb, pid)))
            continue
        streams = array.array("i", ancillary[0][2])
        if (pid := _system("fork")()) == 0:
            line.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            return
        for stream in streams:
            os.close(stream)
        line.sendall(_ANSWER.pack(pid))


def _system(name: str) -> Any:
    """The system's own call: gevent's would make a hub."""
    from gevent import monkey

    return monkey.get_original("os", name)


def _status_of(verb: bytes, pid: int) -> int:
    """How the child ended, if it has, as `subprocess` says it."""
    if verb == b"kill":
        os.kill(pid, signal.SIGKILL)
    ended, status = _system("waitpid")(pid, os.WNOHANG if verb == b"poll" else 0)
    return os.waitstatus_to_exitcode(status) if ended else _RUNS

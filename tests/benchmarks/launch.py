"""Start a server on its core, wait until it answers, and end it with all that it started."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.benchmarks import proc
from tests.benchmarks.servers import HOST

ROOT = Path(__file__).resolve().parents[2]
READY_DEADLINE = 60.0  # seconds from the start to the first good answer; a busy machine needs several
STOP_DEADLINE = 15.0  # seconds for a graceful stop, then SIGKILL
POLL = 0.05
# Nothing of the caller's environment but this reaches a server: GUNICORN_CMD_ARGS, WEB_CONCURRENCY and their like would
# make rows unequal.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "TMPDIR")


class ServerError(RuntimeError):
    """A server did not start, ended by itself, or does not answer as it should; the message holds the end of its log."""


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of every process that a benchmark starts."""
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    ours = {"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings"}
    return {**kept, **ours, **extra}


def pinned(command: Sequence[str], core: int) -> list[str]:
    """The command on one core; taskset execs it, so the PID is the server's."""
    return ["taskset", "--cpu-list", str(core), *command]


def free_port() -> int:
    """A TCP port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until the condition holds; whether it came to hold in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


def fetch(port: int, path: str, seconds: float = 15.0) -> tuple[int, str]:
    """Status and body of one GET. Raises OSError or HTTPException."""
    connection = http.client.HTTPConnection(HOST, port, timeout=seconds)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


class RunningServer:
    """A process tree that we started: a context manager that leaves nothing behind.

    :param command: what to run; its output goes to `log`.
    :param port: where it will listen.
    :param directory: the one that it starts in.
    """

    def __init__(
        self, command: Sequence[str], *, port: int, env: Mapping[str, str], log: Path, directory: Path = ROOT
    ) -> None:
        self.command = list(command)
        self._directory = directory
        self.port = port
        self.log = log
        self._env = environment(env)

    def __enter__(self) -> Self:
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                self.command,
                cwd=self._directory,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, for the kill at the end
            )
        return self

    def __exit__(self, *exc: object) -> None:
        everyone = proc.tree(self.pid)
        if not self._end():
            self._note(f"did not stop within {STOP_DEADLINE:g} s of SIGTERM; killed")
        for survivor in everyone:
            now = proc.stat(survivor.pid)
            if now is not None and now.started == survivor.started and survivor.pid != self.pid:
                self._note(f"left behind and killed: {survivor.pid} {proc.command(survivor.pid)}")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(survivor.pid, signal.SIGKILL)

    def _end(self) -> bool:
        """Ask the first process to stop, and kill its group when it does not; whether it stopped by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.terminate()
            self._process.wait(STOP_DEADLINE)
            return True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        return False

    def _note(self, text: str) -> None:
        with self.log.open("a") as log:
            log.write(f"\n[benchmark] {text}\n")
        print(f"  {self.log.name}: {text}", file=sys.stderr)

    @property
    def pid(self) -> int:
        """The first process."""
        return self._process.pid

    def wait_ready(self, path: str, expect: str, deadline: float = READY_DEADLINE) -> None:
        """Wait for the first good answer. Raises ServerError at the deadline (seconds), or when the server ended."""

        def settled() -> bool:
            return self._process.poll() is not None or self._answers(path)

        if not wait_until(settled, deadline):
            raise ServerError(f"does not answer within {deadline:g} s\n{self.tail()}")
        if self._process.poll() is not None:
            raise ServerError(f"ended with {self._process.returncode} before it answered\n{self.tail()}")
        self.check(path, expect)

    def _answers(self, path: str) -> bool:
        try:
            fetch(self.port, path)
        except (OSError, http.client.HTTPException):
            return False
        return True

    def listens(self) -> bool:
        """Whether somebody accepts connections on the port."""
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1.0):
            return True
        return False

    def check(self, path: str, expect: str) -> None:
        """One request that must be answered 200 with a body that contains `expect`. Raises ServerError."""
        try:
            status, body = fetch(self.port, path)
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"no answer to {path}: {error!r}\n{self.tail()}") from error
        if status != http.HTTPStatus.OK or expect not in body:
            raise ServerError(f"{path} answered {status}: {body[:200]!r}\n{self.tail()}")

    def tail(self, lines: int = 15) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

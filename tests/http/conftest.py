"""Servers in processes of their own."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from tests import forking
from tests.http.client import PATIENCE, Client, eventually
from tests.processes import procfs

SERVE = "tests.http.serve"


class ForkedServer(forking.Forked):
    """A server process: a twentieth of the work of one that is begun from nothing."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        ends = [os.pipe() for _stream in range(3)]
        theirs = [ends[0][0], ends[1][1], ends[2][1]]
        super().__init__(SERVE, *theirs)
        for descriptor in theirs:
            os.close(descriptor)
        self.stdin = os.fdopen(ends[0][1], "w")
        self.stdout = os.fdopen(ends[1][0])
        self.stderr = os.fdopen(ends[2][0])
        self.stdin.write(json.dumps(options) + "\n")
        self.stdin.flush()


def started(options: Mapping[str, Any]) -> subprocess.Popen[str]:
    """A server process, begun from nothing."""
    return subprocess.Popen(
        forking.command(SERVE, json.dumps(options)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Served:
    """A server process, its log and its gauges."""

    def __init__(self, *, alone: bool = False, **options: Any) -> None:
        """alone: it shares no memory with others, so that what it has can be measured."""
        self.process = started(options) if alone else ForkedServer(options)
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.noise: list[str] = []
        self.reader = threading.Thread(target=self.read_log)
        self.reader.start()
        assert self.process.stdout is not None
        self.address = json.loads(self.process.stdout.readline())
        self.base = self.gauges()
        self.expected_events = {"request_refused"}

    def read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.events.put(json.loads(line))
            except ValueError:
                self.noise.append(line)

    def command(self, text: str) -> Any:
        self.tell(text)
        return self.told()

    def tell(self, text: str) -> None:
        """Send a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def told(self) -> Any:
        """Wait for the answer to a command."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def gauges(self) -> dict[str, int]:
        return self.command("gauges")  # type: ignore[no-any-return]

    def event(self, name: str) -> dict[str, Any]:
        """Wait for an event."""
        self.expected_events.add(name)
        while (found := self.events.get(timeout=PATIENCE))["event"] != name:
            assert found["event"] in self.expected_events, found
        return found

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """It stands still: what is sent to it meanwhile has all arrived when it looks again."""
        os.kill(self.process.pid, signal.SIGSTOP)
        eventually(lambda: procfs.state(self.process.pid) == "T", "it stands still")
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    def connect(self, **options: Any) -> Client:
        return Client(self.address, **options)

    def stop(self) -> None:
        """End it, and check that nothing was left: connection, descriptor, permit, or a word in the log."""
        try:
            eventually(lambda: self.gauges()["open"] == 0, "all connections closed")
            last = self.gauges()
            assert last["running"] == 0
            assert last["fds"] <= self.base["fds"], "descriptors leaked"
        finally:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            assert self.process.stderr is not None
            self.process.stdin.close()
            code = self.process.wait(PATIENCE)
            self.reader.join()
            self.process.stdout.close()
            self.process.stderr.close()
        assert code == 0
        assert self.noise == []
        while not self.events.empty():
            left = self.events.get()
            assert left["event"] in self.expected_events, left


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Start servers with options."""
    servers: list[Served] = []

    def start(**options: Any) -> Served:
        servers.append(Served(**options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    """A server with the default options, for tests that leave it as it was."""
    server = Served()
    yield server
    server.stop()

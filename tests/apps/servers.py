"""gunicorn's sync worker and djworker before one application, and what the database server counts meanwhile."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tests.apps.application import Application, Place
from tests.db.servers import DatabaseServer
from tests.ports import free_port

HOST: Final = "127.0.0.1"
WORKERS: Final = 2
MAX_SIZE: Final = 4
#: Connections of workers that the database server may count: during a reload there is one worker more.
BOUND: Final = (WORKERS + 1) * MAX_SIZE
#: Each mold asks the database, by a connection that lives for as long as the question.
MOLDS: Final = 1
#: Seconds until a server answers, until a reload has replaced all workers, and until a server has ended.
_READY_WITHIN, _RELOAD_WITHIN, _STOP_WITHIN = 180.0, 300.0, 60.0
_COUNT_EVERY: Final = 0.05


class ServerFailed(RuntimeError):
    """A server does not do what it was started for; the message holds the end of its log."""


@dataclass(slots=True)
class Server:
    """A server of one application. A context manager."""

    command: Sequence[str]
    place: Place
    port: int
    log: Path
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                self.command, cwd=self.place.folder, env=self.place.environ(), stdout=output, stderr=output
            )
        try:
            self._wait(self._answers, _READY_WITHIN, "an answer")
        except ServerFailed:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def reload(self) -> None:
        """Ask for a rolling reload."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return djworker's events of this name so far."""
        lines = self.log.read_text(errors="replace").splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [event for event in found if event.get("event") == name]

    def reloaded(self) -> bool:
        """Wait for the end of a reload; whether the new generation serves."""
        self._wait(lambda: bool(self.events("reload_done") or self.events("reload_failed")), _RELOAD_WITHIN, "a reload")
        return bool(self.events("reload_done"))

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://{HOST}:{self.port}/", timeout=30).close()
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            return False
        return True

    def _wait(self, condition: Any, seconds: float, what: str) -> None:
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while not condition():
            if self._process.poll() is not None or time.monotonic() > deadline:
                text = self.log.read_text(errors="replace")[-6000:]
                raise ServerFailed(f"{self.command[0]}: not within {seconds:g} s: {what}\n{text}")
            time.sleep(0.1)


def gunicorn(application: Application, place: Place, port: int, log: Path) -> Server:
    """Return the reference: one request after the other, each with Django's own connection."""
    program = [str(place.python.parent / "gunicorn"), application.wsgi]
    return Server([*program, "-b", f"{HOST}:{port}", "-w", "3", "-t", "120"], place, port, log)


def djworker(application: Application, place: Place, port: int, log: Path) -> Server:
    """Return what is tried: two workers, each with at most *MAX_SIZE* connections."""
    program = [str(place.python.parent / "djworker"), application.wsgi]
    options = ["-w", str(WORKERS), "--pool-max-size", str(MAX_SIZE), "--log-format", "json", "--timeout", "120"]
    # The machine may have other things to do: no request is to be refused for it.
    options += ["--boot-timeout", "300", "--pool-timeout", "120", "--queue-timeout", "120"]
    return Server([*program, "-b", f"{HOST}:{port}", *options], place, port, log)


@dataclass(slots=True)
class Count:
    """The most connections that the database server counted at once."""

    most: int = 0
    #: Before the reload began: there are no more workers than were asked for.
    most_before: int = 0
    reloading: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def counted(server: DatabaseServer, database: str) -> Iterator[Count]:
    """Count the connections, many times a second, for as long as it takes."""
    count, over = Count(), threading.Event()

    def look() -> None:
        while not over.wait(_COUNT_EVERY):
            before = not count.reloading.is_set()
            now = server.connections(database)
            count.most = max(count.most, now)
            if now > max(BOUND, count.most) or (before and now > max(WORKERS * MAX_SIZE, count.most_before)):
                print(f"{now} connections: {sorted(server.activity(database), key=str)}", flush=True)
            if before:
                count.most_before = max(count.most_before, now)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield count
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run a Redis, for applications that need one; its URL."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", HOST, "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield f"redis://{HOST}:{port}"
    finally:
        process.terminate()
        process.wait()

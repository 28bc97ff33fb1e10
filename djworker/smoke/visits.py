"""Requests through real sockets: to one worker that is meant, and to all of them at once during the reload."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from djworker.smoke import kernel

__all__ = ["Load", "NotReachedError", "Visit", "Visitor"]

#: Seconds for an answer.
ANSWER_WITHIN: Final = 30.0
#: Seconds for each worker to take one of the connections that are offered, and for one look at who has which.
REACHED_WITHIN: Final = 5.0
_TAKEN_WITHIN: Final = 0.2
_LOOK: Final = 0.005
#: Connections that are offered at once, for each worker.
_OFFERED: Final = 4
#: Clients at once during the reload, for each worker.
_CLIENTS: Final = 2
#: Seconds between two requests of one client: the reload needs the processors, too.
_PAUSE: Final = 0.05


class NotReachedError(Exception):
    """A worker has not taken a connection."""


@dataclass(frozen=True, slots=True)
class Visit:
    """[smoke] One request. status: 0 where there was no answer, and *trouble* says why. pid: the worker, where it was meant."""

    path: str
    status: int
    trouble: str = ""
    pid: int = 0


class Visitor:
    """[smoke] Asks at one address. host: the name that ``ALLOWED_HOSTS`` lets in."""

    def __init__(self, port: int, host: str) -> None:
        self._port = port
        self._headers = {"Host": host, "User-Agent": "djworker-smoke"}

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_WITHIN)
        connection.connect()
        return connection

    def connect_to_each(self, pids: Sequence[int]) -> dict[int, http.client.HTTPConnection]:
        """Return one connection to each of these workers.

        Raises:
            NotReachedError: one of them takes none.
        """
        found: dict[int, http.client.HTTPConnection] = {}
        deadline = time.monotonic() + REACHED_WITHIN
        while len(found) < len(pids) and time.monotonic() < deadline:
            for pid, connection in self._offer(pids):
                if found.setdefault(pid, connection) is not connection:
                    connection.close()
        if missing := sorted(set(pids) - found.keys()):
            for connection in found.values():
                connection.close()
            raise NotReachedError(f"took no connection within {REACHED_WITHIN:g} s: pid {missing[0]}")
        return found

    def _offer(self, pids: Sequence[int]) -> Iterator[tuple[int, http.client.HTTPConnection]]:
        """Open connections, and tell which worker has taken which."""
        offered = {}
        for _ in range(_OFFERED * len(pids)):
            connection = self.connect()
            offered[int(connection.sock.getsockname()[1])] = connection
        taken: dict[int, int] = {}
        deadline = time.monotonic() + _TAKEN_WITHIN
        while len(taken) < len(offered) and time.monotonic() < deadline:
            time.sleep(_LOOK)
            taken = kernel.owners(pids, self._port, offered)
        for port, connection in offered.items():
            if port in taken:
                yield taken[port], connection
            else:
                connection.close()

    def get(self, path: str) -> Visit:
        """Ask once, on a connection of its own."""
        try:
            connection = self.connect()
        except OSError as error:
            return Visit(path, 0, f"no connection: {error}")
        try:
            return self._ask(connection, path)
        finally:
            connection.close()

    def get_from_each(self, pids: Sequence[int], paths: Sequence[str]) -> list[Visit]:
        """Ask every worker for these paths, one after the other, on one connection as long as the server keeps it."""
        connections = self.connect_to_each(pids)
        try:
            return [self._ask(self._open(connections, pid), path, pid) for path in paths for pid in pids]
        finally:
            for connection in connections.values():
                connection.close()

    def _open(self, connections: dict[int, http.client.HTTPConnection], pid: int) -> http.client.HTTPConnection:
        if connections[pid].sock is None:  # closed after the answer before; http.client would reach any worker
            connections |= self.connect_to_each([pid])
        return connections[pid]

    def _ask(self, connection: http.client.HTTPConnection, path: str, pid: int = 0) -> Visit:
        try:
            connection.request("GET", path, headers=self._headers)
            response = connection.getresponse()
            response.read()
        except TimeoutError:
            connection.close()
            return Visit(path, 0, f"no answer within {ANSWER_WITHIN:g} s", pid)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return Visit(path, 0, f"the connection was lost: {type(error).__name__} {error}", pid)
        return Visit(path, response.status, "", pid)


class Load:
    """[smoke] Clients that ask until they are told to stop."""

    def __init__(self, visitor: Visitor, paths: list[str], workers: int) -> None:
        self.visits: list[Visit] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(visitor.get, paths[n % len(paths) :] + paths[: n % len(paths)]))
            for n in range(_CLIENTS * workers)
        ]

    def _run(self, get: Callable[[str], Visit], paths: Sequence[str]) -> None:
        while not self._stop.is_set():
            for path in paths:
                self.visits.append(get(path))
            self._stop.wait(_PAUSE)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have them ask while the block runs; each request is answered before it ends."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

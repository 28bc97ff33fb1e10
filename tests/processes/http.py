"""Clients: one request, a raw connection, and a load that remembers what became of every single request."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, Self

#: Seconds until a request counts as lost.
LOST_AFTER = 90.0


@dataclass(frozen=True)
class Address:
    """Where a server listens, as its ``listening`` event says."""

    text: str

    @property
    def is_unix(self) -> bool:
        """Whether it is a path."""
        return self.text.startswith("unix:")

    @property
    def path(self) -> str:
        """The unix socket's file, or the name of an abstract one as the kernel wants it."""
        path = self.text.removeprefix("unix:")
        return f"\0{path[1:]}" if path.startswith("@") else path

    @property
    def host(self) -> str:
        """Without brackets."""
        return self.text.removeprefix("http://").rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Of TCP."""
        return int(self.text.rpartition(":")[2])

    def connect(self, timeout: float = LOST_AFTER) -> socket.socket:
        """A connected socket."""
        if not self.is_unix:
            return socket.create_connection((self.host, self.port), timeout)
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout)
        sock.connect(self.path)
        return sock


class Client(HTTPConnection):
    """A connection of the standard library's client to any kind of address."""

    def __init__(self, address: Address, timeout: float = LOST_AFTER) -> None:
        super().__init__("localhost", timeout=timeout)
        self._address = address

    def connect(self) -> None:
        self.sock = self._address.connect(self.timeout or LOST_AFTER)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


def read_answer(response: HTTPResponse) -> Answer:
    """All of it."""
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def request(
    address: Address,
    path: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = LOST_AFTER,
) -> Answer:
    """One request on one connection."""
    client = Client(address, timeout)
    try:
        client.request(method, path, body, {"Connection": "close", **(headers or {})})
        return read_answer(client.getresponse())
    finally:
        client.close()


class Background:
    """A request that runs while the test does something else."""

    def __init__(self, address: Address, path: str, **kwargs: Any) -> None:
        self._outcome: Answer | Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(address, path, kwargs), daemon=True)
        self._thread.start()

    def _run(self, address: Address, path: str, kwargs: dict[str, Any]) -> None:
        try:
            self._outcome = request(address, path, **kwargs)
        except (OSError, HTTPException) as error:
            self._outcome = error

    def result(self, timeout: float = LOST_AFTER) -> Answer | Exception:
        """Wait for the answer, or for what happened instead."""
        self._thread.join(timeout)
        assert self._outcome is not None, "no answer yet"
        return self._outcome

    def answer(self, timeout: float = LOST_AFTER) -> Answer:
        """Wait for the answer; there must be one."""
        outcome = self.result(timeout)
        assert isinstance(outcome, Answer), f"lost: {outcome!r}"
        return outcome


class Raw:
    """Bytes out, bytes in."""

    def __init__(self, address: Address, timeout: float = LOST_AFTER) -> None:
        self.sock = address.connect(timeout)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.sock.sendall(data)

    def get(self, path: str, *, close: bool = False) -> None:
        """Send a request."""
        self.send(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{'Connection: close' if close else 'A: b'}\r\n\r\n".encode()
        )

    def answer(self) -> Answer:
        """Read one answer."""
        response = HTTPResponse(self.sock)
        response.begin()
        return read_answer(response)

    def short_answer(self) -> Answer:
        """Read an answer with a length, to the only question that was sent: half of the work of ``answer``."""
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._piece(data)
        first, *lines = data[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        size = end + 4 + int(headers["content-length"])
        while len(data) < size:
            data += self._piece(data)
        assert len(data) == size, f"more than an answer: {data!r}"
        return Answer(int(first.split()[1]), headers, data[end + 4 :])

    def _piece(self, before: bytes) -> bytes:
        piece = self.sock.recv(65536)
        if not piece:
            raise ConnectionResetError(f"the connection ended after {before!r}")
        return piece

    def rest(self) -> bytes:
        """Everything until the other side closes; a reset is its end too."""
        data = b""
        try:
            while piece := self.sock.recv(65536):
                data += piece
        except ConnectionResetError:
            pass
        return data

    def close(self) -> None:
        """Close it."""
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


@dataclass
class Load:
    """Clients in a closed loop: half of them keep their connection, half make a new one for each request."""

    address: Address
    path: str = "/debug/pid"
    clients: int = 4
    #: Seconds that a client thinks between two requests: load, not a benchmark; the machine is needed by the server.
    pause: float = 0.01
    statuses: Counter[int] = field(default_factory=Counter)
    #: Sent and not answered: what must never happen.
    lost: list[str] = field(default_factory=list)
    #: Nobody listened.
    refused: int = 0
    #: What the answers said: {"pid": ..., "version": ...}, of each kept connection in order.
    pids: set[int] = field(default_factory=set)
    versions: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._run, args=(number % 2 == 0,), name=f"client {number}", daemon=True)
            for number in range(self.clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No more requests; wait for the last answers."""
        self._stop.set()
        for thread in self._threads:
            thread.join(LOST_AFTER + 5)
            assert not thread.is_alive(), "a client hangs"

    def _run(self, keep: bool) -> None:  # noqa: FBT001
        head = f"GET {self.path} HTTP/1.1\r\nHost: localhost\r\n{'' if keep else 'Connection: close'}"
        question = f"{head.rstrip()}\r\n\r\n".encode()
        raw: Raw | None = None
        while not self._stop.wait(self.pause):
            raw = self._one(raw, question, keep=keep)
        if raw is not None:
            raw.close()

    def _one(self, raw: Raw | None, question: bytes, *, keep: bool) -> Raw | None:
        """One request; the connection, where it can be used again."""
        try:
            raw = raw or Raw(self.address)
        except ConnectionRefusedError:
            return self._note_refused()
        except OSError as error:
            if isinstance(error, FileNotFoundError):  # of a unix socket
                return self._note_refused()
            return self._note_lost(error, "connecting")
        try:
            raw.send(question)
            answer = raw.short_answer()
        except OSError as error:
            raw.close()
            return self._note_lost(error, "waiting for an answer")
        self._note(answer)
        if keep and answer.headers.get("connection") != "close":
            return raw
        raw.close()
        return None

    def _note_refused(self) -> None:
        with self._changed:
            self.refused += 1

    def _note_lost(self, error: Exception, doing: str) -> None:
        with self._changed:
            self.lost.append(f"{time.strftime('%S')} {doing}: {error!r}")
            self._changed.notify_all()

    def _note(self, answer: Answer) -> None:
        with self._changed:
            self.statuses[answer.status] += 1
            if answer.status == 200:
                found = answer.json()
                self.pids.add(found["pid"])
                self.versions.append(found["version"])
            self._changed.notify_all()

    @property
    def answered(self) -> int:
        """Requests that were."""
        return self.statuses.total()

    def wait_for_answers(self, more: int = 20, timeout: float = LOST_AFTER) -> None:
        """Wait until so many more requests were answered."""
        with self._changed:
            wanted = self.answered + more
            assert self._changed.wait_for(lambda: self.answered >= wanted, timeout), f"no answers: {self}"

    def wait_for_version(self, version: int, timeout: float = LOST_AFTER) -> None:
        """Wait until new code answers."""
        with self._changed:
            assert self._changed.wait_for(lambda: version in self.versions, timeout), f"no version {version}: {self}"

    def assert_nothing_lost(self) -> None:
        """Every request was answered, and well."""
        assert not self.lost, self.lost[:10]
        assert set(self.statuses) == {200}, self.statuses


@contextmanager
def idle_connections(address: Address, count: int) -> Iterator[list[Raw]]:
    """Connections that have had one answer and are kept."""
    kept: list[Raw] = []
    try:
        for start in range(0, count, 100):  # not all at once: who waits for too long to begin is refused
            some = [Raw(address) for _ in range(start, min(start + 100, count))]
            kept += some
            for raw in some:
                raw.get("/raw")
            for raw in some:
                assert raw.answer().status == 200
        yield kept
    finally:
        for raw in kept:
            raw.close()

"""The other clients: they ask for something small, on new and on kept connections, and note how long they wait."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Self

from tests.http.client import Client

#: Seconds between two requests: not a load of their own.
PAUSE = 0.01


class Others:
    """Two clients in threads, for as long as the context lasts."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.waits: list[float] = []
        self.failures: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=[kept]) for kept in (False, True)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def worst(self) -> float:
        """Seconds of the longest wait."""
        return max(self.waits)

    def _ask(self, kept: bool) -> None:  # noqa: FBT001
        client = None
        while not self._over.is_set():
            began = time.monotonic()
            try:
                client = client or Client(self.port)
                if (status := client.get("/hello").status) != 200:
                    self.failures.append(str(status))
            except Exception as error:  # noqa: BLE001 - whatever it was, it is reported
                self.failures.append(repr(error))
                client = None
            self.waits.append(time.monotonic() - began)
            if client is not None and not kept:
                client.socket.close()
                client = None
            time.sleep(PAUSE)
        if client is not None:
            client.socket.close()


@contextlib.contextmanager
def attacked(port: int, name: str, *numbers: int) -> Iterator[None]:
    """Run a script of this folder meanwhile."""
    process = subprocess.Popen([sys.executable, "-m", f"tests.attacks.{name}", str(port), *map(str, numbers)])
    try:
        yield
    finally:
        process.kill()
        process.wait()

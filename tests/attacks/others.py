"""The other clients: they ask for something small, on new and on kept connections, and note how long they wait.

On a busy machine much of a wait is the machine's: the server, or the client, could run and has no processor. Linux counts that
time (``schedstat``), so that it can be told from the time for which the server keeps them waiting.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tests.http.client import Client

#: Seconds between two requests: not a load of their own.
PAUSE = 0.01


def without_processor(thread: int) -> float:
    """Seconds for which a thread could run and had no processor, by its number: a process's is its first thread's."""
    try:
        return int(Path(f"/proc/{thread}/schedstat").read_text().split()[1]) / 1e9
    except OSError:  # another system than Linux, or it has ended
        return 0.0


class Others:
    """Two clients in threads, for as long as the context lasts. server: its process, to know what the machine adds."""

    def __init__(self, port: int, server: int | None = None) -> None:
        self.port = port
        self.server = server
        self.waits: list[float] = []
        #: The same without the time for which the server or the client had no processor, whichever was longer.
        self.kept: list[float] = []
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
        threads = [threading.get_native_id(), *([] if self.server is None else [self.server])]
        while not self._over.is_set():
            before = list(map(without_processor, threads))
            began = time.monotonic()
            try:
                client = client or Client(self.port)
                if (status := client.get("/hello").status) != 200:
                    self.failures.append(str(status))
            except Exception as error:  # noqa: BLE001 - whatever it was, it is reported
                self.failures.append(repr(error))
                client = None
            wait = time.monotonic() - began
            lacked = max(
                after - earlier for after, earlier in zip(map(without_processor, threads), before, strict=True)
            )
            self.waits.append(wait)
            self.kept.append(max(0.0, wait - lacked))
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

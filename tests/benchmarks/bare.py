"""`python -m tests.benchmarks.bare MODULE:NAME PATH SECONDS`: call the application in a loop, without a server or a socket.

Prints one JSON object: requests, seconds, cpu (seconds), p50 and p99 (seconds), errors, status, pss (bytes), body. It is what
the application itself costs, the bound for every server.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tests.benchmarks import proc
from tests.benchmarks.summary import percentile

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def environ(target: str) -> dict[str, Any]:
    """What wrk's request becomes behind a server (PEP 3333)."""
    path, _, query = target.partition("?")
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1:8000",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


@dataclass(slots=True)
class Client:
    """Calls an application as a server would."""

    application: Application
    canned: dict[str, Any]
    status: str = ""

    def _start_response(
        self, status: str, _headers: list[tuple[str, str]], _exc_info: object = None
    ) -> Callable[[bytes], None]:
        self.status = status
        return lambda _data: None

    def get(self) -> bytes:
        """One request from the canned environ to `close()`; the body."""
        answer = self.application({**self.canned, "wsgi.input": io.BytesIO()}, self._start_response)
        try:
            return b"".join(answer)
        finally:
            if close := getattr(answer, "close", None):
                close()


def measure(client: Client, seconds: float) -> dict[str, Any]:
    """Call it for so long."""
    clock, times, errors = time.perf_counter, [], 0
    cpu, start = time.process_time(), clock()
    now, end = start, start + seconds
    while now < end:
        client.get()
        before, now = now, clock()
        times.append(now - before)
        errors += client.status[:1] != "2"
    cpu = time.process_time() - cpu
    ordered = sorted(times)
    counts = {"requests": len(times), "seconds": now - start, "cpu": cpu, "errors": errors}
    return {**counts, "p50": percentile(ordered, 50), "p99": percentile(ordered, 99)}


def main(target: str, path: str, seconds: str) -> None:
    """Load, warm up, measure, print."""
    module, _, name = target.partition(":")
    client = Client(getattr(importlib.import_module(module), name), environ(path))
    measure(client, min(1.0, float(seconds)))
    result = measure(client, float(seconds))
    body = client.get().decode(errors="replace")
    print(json.dumps({**result, "status": client.status, "pss": proc.pss(os.getpid()), "body": body}))


if __name__ == "__main__":
    main(*sys.argv[1:])

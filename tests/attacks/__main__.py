"""``python -m tests.attacks [NAME ...]``: each attack against djworker and gunicorn, and how long others wait meanwhile.

Before each attack the same clients ask the same server without it ("alone"): so much of a wait is the machine's, at that moment.
"kept" is the longest wait without the time for which the server, or the client, had no processor: a figure that says something on
a busy machine, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.attacks.others import Others, attacked

SECONDS = 5
#: Seconds to gunicorn's first worker, on a machine that does something else too.
READY = 60.0
APPLICATION = "tests.http.apps:application"
NAMES = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if "\ndef attack(" in path.read_text())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def djworker() -> Iterator[tuple[int, int]]:
    """Its HTTP server in one process; port and process."""
    command = [sys.executable, "-m", "tests.http.serve", json.dumps({})]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process.pid
        finally:
            process.kill()


@contextlib.contextmanager
def gunicorn() -> Iterator[tuple[int, int]]:
    """One gevent worker; port and process."""
    port = free_port()
    command = [
        "-k",
        "gevent",
        "-w",
        "1",
        "-t",
        "600",
        "-b",
        f"127.0.0.1:{port}",
        "--log-level",
        "critical",
        APPLICATION,
    ]
    with subprocess.Popen([sys.executable, "-m", "gunicorn", *command], stderr=subprocess.DEVNULL) as process:
        try:
            yield port, _worker(process.pid, port)
        finally:
            # The master first, which would start another worker.
            workers = _children(process.pid)
            for pid in (process.pid, *workers):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _worker(master: int, port: int) -> int:
    """Wait until a master listens, and has its one worker, which it starts after that."""
    end = time.monotonic() + READY
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            if workers := _children(master):
                return workers[0]
        time.sleep(0.05)
    raise TimeoutError(f"gunicorn has no worker after {READY:g} s")


def resident(pid: int) -> int:
    """KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def main(names: list[str]) -> None:
    print(f"{'attack':<17}{'server':<10}{'answers':>8}{'failed':>7}{'more MiB':>9}", end="")
    print("".join(f"{f'{what} {when}':>{WIDTH}}" for when in ("alone", "attacked") for what in COLUMNS), "  (ms)")
    for name in names or NAMES:
        for server in (djworker, gunicorn):
            with server() as (port, pid):
                with Others(port, pid) as alone:
                    time.sleep(SECONDS)
                before = resident(pid)
                with attacked(port, name):
                    time.sleep(1)
                    with Others(port, pid) as others:
                        time.sleep(SECONDS)
                    grown = (resident(pid) - before) / 1024
            failed = len(others.failures)
            print(f"{name:<17}{server.__name__:<10}{len(others.waits) - failed:>8}{failed:>7}{grown:>9.1f}", end="")
            figures = (number * 1000 for clients in (alone, others) for number in summary(clients))
            print("".join(f"{number:>{WIDTH}.1f}" for number in figures), flush=True)


#: Of what is printed: the middle and the longest wait, and the longest for which the server kept a client.
COLUMNS = ("median", "worst", "kept")
WIDTH = 17


def summary(clients: Others) -> tuple[float, float, float]:
    """In seconds."""
    waits = sorted(clients.waits)
    return waits[len(waits) // 2], waits[-1], max(clients.kept)


if __name__ == "__main__":
    main(sys.argv[1:])

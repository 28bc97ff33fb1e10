"""``python -m tests.attacks [NAME ...]``: each attack against djworker and gunicorn, and how long others wait meanwhile."""

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
    print(
        f"{'attack':<17}{'server':<10}{'answers':>8}{'failed':>8}{'median ms':>11}{'worst ms':>10}{'more memory, MiB':>18}"
    )
    for name in names or NAMES:
        for server in (djworker, gunicorn):
            with server() as (port, pid):
                before = resident(pid)
                with attacked(port, name):
                    time.sleep(1)
                    with Others(port) as others:
                        time.sleep(SECONDS)
                    grown = (resident(pid) - before) / 1024
            waits = sorted(others.waits)
            middle, worst = waits[len(waits) // 2] * 1000, waits[-1] * 1000
            good = len(waits) - len(others.failures)
            print(
                f"{name:<17}{server.__name__:<10}{good:>8}{len(others.failures):>8}{middle:>11.1f}{worst:>10.1f}{grown:>18.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])

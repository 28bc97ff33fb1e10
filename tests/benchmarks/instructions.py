"""What a request costs in instructions: `python -m tests.benchmarks.instructions raw hello --tree . --tree ../before`.

Times are noise on a machine that is busy; valgrind's callgrind counts, and counts nearly the same each time. So two states of the
code can be compared within a percent, each in a directory of its own (`git worktree add`, or `git archive`).

One worker answers one client on one connection. What is counted is that worker alone. The kernel's own work is not counted, nor
is that of a database.

Under callgrind a request takes some fifty times as long, and longer where others slow the machine down; what comes by the clock,
a beat for example, comes as often as ever, so that a request would seem to have a large part of it. So the worker's instructions
in a second without requests are counted first, and taken from each round for as long as it lasted. The watch for stalls is off,
unless a row says otherwise: it looks into turns of more than 20 ms, which a page takes under callgrind alone, and 3 % of a page's
instructions were such looks.

    SCENARIO ...     of those in `scenarios`; default raw and hello
    --tree DIR       repeatable; the ratios are to the first; default is this directory
    --every-row      count each of djworker's rows of the scenario, such as `observe` has; the ratios are to the first
    --requests N     counted in each round; default 1000
    --rounds N       default 5, of which the lowest is shown
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks import proc
from tests.benchmarks.databases import surroundings
from tests.benchmarks.launch import ROOT, RunningServer, free_port
from tests.benchmarks.measure import environment_of
from tests.benchmarks.scenarios import SCENARIOS, Row, Scenario
from tests.benchmarks.servers import HOST, SERVERS

#: For a worker that is some fifty times slower than others.
SLOWED: Final = {"DJWORKER_STALL_THRESHOLD": "0"}
#: Requests before the first that counts: caches fill, and CPython specializes what runs often.
WARM_UP = 300
#: Seconds that the client waits for an answer. Under callgrind a worker is about 50 times slower.
ANSWER = 60.0
#: Seconds without requests, in which is counted what comes by the clock: ten beats.
QUIET: Final = 5.0
#: Seconds to its first one.
READY = 300.0
_TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)


class Client:
    """One connection that is kept, and one request after the other on it."""

    def __init__(self, port: int, path: str) -> None:
        self._line = socket.create_connection((HOST, port), timeout=ANSWER)
        self._request = f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode()

    def get(self) -> None:
        """Send a request, and read its answer to the end."""
        self._line.sendall(self._request)
        head, _, body = self._read_head().partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"answered {head[:200]!r}")
        size = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])  # type: ignore[index]
        left = size - len(body)
        while left > 0:
            left -= len(self._line.recv(left))

    def _read_head(self) -> bytes:
        found = b""
        while b"\r\n\r\n" not in found:
            found += self._line.recv(65536)
        return found

    def close(self) -> None:
        """Hang up."""
        self._line.close()


def total_of(written: Path) -> int:
    """The instructions in a file of callgrind's."""
    found = _TOTALS.search(written.read_text())
    if found is None:
        raise ValueError(f"no total in {written}")
    return int(found[1])


@dataclass(frozen=True, slots=True)
class Counter:
    """Callgrind in one process."""

    pid: int
    out: Path

    def begin(self) -> None:
        """Count from now on."""
        self._control("--instr=on")

    def taken(self) -> int:
        """The instructions since the last time, or since the beginning."""
        before = self._written()
        self._control("--dump")
        (written,) = self._written() - before
        return total_of(written)

    def _written(self) -> set[Path]:
        return set(self.out.glob(f"{self.pid}.out.*"))

    def _control(self, word: str) -> None:
        subprocess.run(["callgrind_control", word, str(self.pid)], check=True, capture_output=True)


@contextlib.contextmanager
def serving(scenario: Scenario, row: Row, tree: Path, env: dict[str, str], out: Path) -> Iterator[tuple[Counter, int]]:
    """The code of a directory under callgrind; its worker's counter, and the port."""
    port = free_port()
    watch = ["valgrind", "--tool=callgrind", "--trace-children=yes", "--instr-atstart=no"]
    server = SERVERS["djworker"].command(port=port, app=scenario.app, options=row.options)
    command = [*watch, f"--callgrind-out-file={out}/%p.out", *server]
    log = out.with_suffix(".log")
    with RunningServer(
        command, port=port, env={**SLOWED, **env, "PYTHONPATH": str(tree)}, log=log, directory=tree
    ) as running:
        running.wait_ready(scenario.path, scenario.expect, READY)
        # The arbiter is the first process. Its children are the mold and, newer than that, the worker.
        worker = max((one for one in proc.tree(running.pid) if one.parent == running.pid), key=lambda one: one.started)
        yield Counter(worker.pid, out), port


@dataclass(frozen=True, slots=True)
class Found:
    """Instructions of a request, in each round, and of a second without requests."""

    requests: list[float]
    second: float


def count(scenario: Scenario, row: Row, tree: Path, env: dict[str, str], requests: int, rounds: int) -> Found:
    """Count one row."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "callgrind"
        out.mkdir()
        with (
            serving(scenario, row, tree, env, out) as (counter, port),
            contextlib.closing(Client(port, scenario.path)) as client,
        ):
            counter.begin()
            for _ in range(WARM_UP):
                client.get()
            counter.taken()
            began = time.monotonic()
            time.sleep(QUIET)
            second = counter.taken() / (time.monotonic() - began)
            return Found([_round(counter, client, requests, second) for _ in range(rounds)], second)


def _round(counter: Counter, client: Client, requests: int, second: float) -> float:
    """Instructions of a request. second: those that a second takes without any."""
    began = time.monotonic()
    for _ in range(requests):
        client.get()
    taken = counter.taken()
    return (taken - second * (time.monotonic() - began)) / requests


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, and print a table."""
    known = {scenario.name: scenario for scenario in SCENARIOS}
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.instructions")
    parser.add_argument("scenarios", nargs="*", default=["raw", "hello"], metavar="SCENARIO")
    parser.add_argument("--tree", type=Path, action="append", default=[])
    parser.add_argument("--every-row", action="store_true")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    if shutil.which("callgrind_control") is None:
        parser.error("callgrind_control is not installed; it comes with valgrind")
    trees = [tree.resolve() for tree in options.tree or [ROOT]]
    print(f"{'scenario':<16} {'a request':>12} {'highest':>10} {'ratio':>8} {'idle second':>12}  tree")
    for scenario in (known[name] for name in options.scenarios):
        rows = [row for row in scenario.rows if row.server == "djworker"] if options.every_row else [scenario.rows[0]]
        with tempfile.TemporaryDirectory() as place, surroundings(scenario, Path(place)) as around:
            first = 0.0
            for tree, row in ((tree, row) for tree in trees for row in rows):
                env = environment_of(scenario, row, around)
                found = count(scenario, row, tree, env, options.requests, options.rounds)
                least = min(found.requests)
                first = first or least
                name = f"{tree} ({row.name})" if options.every_row else str(tree)
                numbers = f"{least:>12.0f} {max(found.requests):>10.0f} {least / first:>8.4f} {found.second:>12.0f}"
                print(f"{scenario.name:<16} {numbers}  {name}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

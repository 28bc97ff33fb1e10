"""The load: run `wrk` and read what it prints."""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 15  # seconds until wrk counts a request as lost
POLL = 0.25  # seconds between two calls of the watcher
SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
QUANTITY = re.compile(r"([\d.]+)(us|ms|s|m|h)\b")


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk measured; times in seconds."""

    requests: int
    seconds: float
    rate: float  # requests a second
    p50: float
    p99: float
    bad_answers: int  # status 400 and above
    socket_errors: int  # connect, read, write
    timeouts: int

    @property
    def errors(self) -> int:
        """Requests that did not get what they asked for."""
        return self.bad_answers + self.socket_errors + self.timeouts


class WrkError(RuntimeError):
    """wrk did not run, or printed something that we do not understand."""


def parse(text: str) -> Load:
    """Read the output of `wrk --latency`. Raises WrkError when a line is missing."""
    total = re.search(r"(\d+) requests in (\S+),", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if total is None or rate is None:
        raise WrkError(f"unexpected output of wrk:\n{text}")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    connect, read, write, timeouts = map(int, sockets.groups()) if sockets else (0, 0, 0, 0)
    return Load(
        requests=int(total[1]),
        seconds=duration(total[2]),
        rate=float(rate[1]),
        p50=percentile(text, 50),
        p99=percentile(text, 99),
        bad_answers=int(bad[1]) if bad else 0,
        socket_errors=connect + read + write,
        timeouts=timeouts,
    )


def duration(text: str) -> float:
    """Seconds in a quantity of wrk's, such as `812.00us` or `1.20s`. Raises WrkError."""
    quantity = QUANTITY.fullmatch(text)
    if quantity is None:
        raise WrkError(f"not a time: {text!r}")
    return float(quantity[1]) * SECONDS[quantity[2]]


def percentile(text: str, percent: int) -> float:
    """Seconds on a line of the latency distribution. Raises WrkError when it is missing."""
    line = re.search(rf"^\s*{percent}%\s+(\S+)\s*$", text, re.MULTILINE)
    if line is None:
        raise WrkError(f"no {percent} % line in the output of wrk:\n{text}")
    return duration(line[1])


def command(url: str, connections: int, seconds: float, script: str = "") -> list[str]:
    """The command line; wrk counts in whole seconds, so a fraction is rounded up. script: a file beside this one."""
    whole = max(1, math.ceil(seconds))
    options = [f"--connections={connections}", f"--duration={whole}s", f"--timeout={TIMEOUT}s", "--latency"]
    if script:
        options.append(f"--script={Path(__file__).with_name(script)}")
    return ["wrk", "--threads=1", *options, url]


def run(
    url: str, connections: int, seconds: float, watch: Callable[[], object] = lambda: None, script: str = ""
) -> Load:
    """Load `url` and wait for the end; `watch` is called now and then meanwhile. Raises WrkError.

    wrk runs where we run: on the core for the load.
    """
    process = start(command(url, connections, seconds, script))
    deadline = seconds + 2 * TIMEOUT
    for _ in range(int(deadline / POLL)):
        try:
            output, problems = process.communicate(timeout=POLL)
        except subprocess.TimeoutExpired:
            watch()
            continue
        if process.returncode:
            raise WrkError(f"wrk ended with {process.returncode}: {problems or output}")
        return parse(output)
    process.kill()
    process.communicate()
    raise WrkError(f"wrk did not end within {deadline:g} s")


def start(arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Start wrk. Raises WrkError with a remedy when it is not installed."""
    try:
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise WrkError("wrk is not installed (Debian: apt-get install wrk)") from None

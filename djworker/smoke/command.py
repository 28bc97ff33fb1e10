"""The words of ``--smoke``, and what is done with them."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from djworker.ipc.contract import EXIT_CONFIG
from djworker.start import interpreter

if TYPE_CHECKING:
    from djworker.smoke.report import Report

__all__ = ["FLAG", "add_arguments", "asks_for_smoke", "main", "program_of"]

FLAG: Final = "--smoke"
_USAGE: Final = f"{FLAG} [PATH ...] [--expect STATUSES] [--json]"
_STATUS: Final = re.compile(r"[1-5]\d\d")
_ADDRESS: Final = re.compile(r"(?:[\w.*-]*|\[[0-9A-Fa-f:.]+\]):\d+|\d+|(?:unix|fd):.+")


def add_arguments(group: Any) -> None:
    """Add the options of a smoke test."""
    group.add_argument(
        FLAG,
        nargs="*",
        default=None,
        metavar="PATH",
        help="Serve on a free port, ask every worker for these paths [default: /], reload under requests, stop; then say what is"
        " wrong. Exit code 0 or 1.",
    )
    group.add_argument(
        "--expect",
        default=None,
        metavar="STATUSES",
        help="With --smoke: the statuses that are right [default: 2xx and 3xx].",
    )
    group.add_argument("--json", action="store_true", help="With --smoke: print JSON.")


def asks_for_smoke(words: Sequence[str]) -> bool:
    """Whether a smoke test is wanted."""
    return FLAG in words or any(word.startswith(f"{FLAG}=") for word in words)


def main(program: Sequence[str], words: Sequence[str]) -> int:
    """Make a smoke test; the exit code.

    Args:
        program: what the server is started with, without the interpreter.
        words: the command line.
    """
    parser = argparse.ArgumentParser(prog=FLAG, usage=_USAGE, add_help=False, allow_abbrev=False)
    add_arguments(parser)
    for names in (("-b", "--bind"), ("--status-bind",)):  # a free port is taken, whatever they say
        parser.add_argument(*names, action="append")
    options, rest = parser.parse_known_args(list(words))
    accepts, wanted = _expectation(parser, options.expect)
    paths = list(dict.fromkeys(options.smoke)) or ["/"]
    if wrong := [path for path in paths if not path.startswith("/")]:
        parser.error(f"{wrong[0]!r} is no path: each begins with /; other words stand before {FLAG}")
    rest = [word for word in rest if not _ADDRESS.fullmatch(word) or _is_value(rest, word)]
    # A script is to find what lies beside it, as it did here.
    flags = [flag for flag in interpreter.python_flags() if flag != "-P" or sys.flags.safe_path]
    report = _try([sys.executable, *flags, *program, *rest], paths, accepts, wanted)
    print(report.as_json() if options.json else report.as_text())  # noqa: T201 - what it is for
    return 0 if report.ok else 1


def _is_value(words: Sequence[str], word: str) -> bool:
    """Whether a word that looks like an address may be the value of the option before it."""
    at = list(words).index(word)
    return at > 0 and words[at - 1].startswith("-") and "=" not in words[at - 1]


def _expectation(parser: argparse.ArgumentParser, given: str | None) -> tuple[Callable[[int], bool], str]:
    if given is None:
        return (lambda status: 200 <= status < 400), "2xx or 3xx"
    words = [word.strip() for word in given.split(",")]
    if wrong := [word for word in words if not _STATUS.fullmatch(word)]:
        parser.exit(EXIT_CONFIG, f"--expect {given}: {wrong[0]!r} is no status: give numbers, as in --expect 200,302\n")
    statuses = {int(word) for word in words}
    return statuses.__contains__, " or ".join(words)


def _try(command: Sequence[str], paths: list[str], accepts: Callable[[int], bool], wanted: str) -> Report:
    # Each start of a server asks for the words above. It has no use for the clients of a smoke test, which take 15 ms to import.
    from djworker.smoke.report import Report  # noqa: PLC0415 - as said
    from djworker.smoke.server import TriedServer  # noqa: PLC0415 - as said
    from djworker.smoke.trial import Trial  # noqa: PLC0415 - as said

    report = Report(paths)
    begin = time.monotonic()
    signal.signal(signal.SIGTERM, _leave)
    server = TriedServer(command)
    try:
        Trial(server, report, accepts, wanted).run()
    finally:
        server.kill()
    report.seconds = time.monotonic() - begin
    return report


def _leave(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)  # as a shell has it; what was started is ended on the way


def program_of(path: str) -> list[str]:
    """Return how ``manage.py`` was called: ``python -m django`` is no script."""
    return ["-m", "django"] if os.path.basename(path) == "__main__.py" else [path]

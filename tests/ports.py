"""TCP ports for programs that cannot choose one themselves, or keep theirs while they are away for a moment."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Final

HOST: Final = "127.0.0.1"
#: Below those that Linux gives where any will do: one that was free a moment ago is not another test's now.
FIRST: Final = 12_000
#: For each process of a run; there are at most eight (tests/side_by_side.py).
EACH: Final = 2_500


def _ours() -> Iterator[int]:
    """The ports of this process of the run, again and again; not from the same one on as another run on this machine."""
    first = FIRST + EACH * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8)
    number = os.getpid() * 97
    while True:
        yield first + number % EACH
        number += 1


_next: Final = _ours()


def free_port(count: int = 1) -> int:
    """The first of so many ports in a row on which there is nothing, and which no other test will be given soon."""
    found: list[int] = []
    while len(found) < count:
        port = next(_next)
        if found and port != found[-1] + 1:
            found.clear()
        if _is_free(port):
            found.append(port)
        else:
            found.clear()
    return found[0]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True

"""Variables of the environment that are ours and no options."""

from __future__ import annotations

from typing import Final

__all__ = ["ADOPT", "CONTROL", "LAUNCH", "OWN", "SERVER"]

#: What ``runworkers`` tells the arbiter, across the ``execve`` that turns one into the other.
LAUNCH: Final = "DJWORKER_LAUNCH"
#: What an arbiter tells the program that takes its place.
ADOPT: Final = "DJWORKER_ADOPT"
#: The option ``control``: ``djworkerctl`` finds the server by it, too.
CONTROL: Final = "DJWORKER_CONTROL"
#: In the environment of molds and workers: the address of their server's control socket; empty where it has none.
SERVER: Final = "DJWORKER_SERVER"
OWN: Final = frozenset({LAUNCH, ADOPT, CONTROL, SERVER})

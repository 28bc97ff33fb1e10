"""Clients of a site that lives through faults: what became of every request, and when."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import gevent

from tests.db.lease.site import Site, eventually, view
from tests.db.operator import Operator

# Seconds from a server's return to the first answer. The promise is two; a machine that runs all tests may itself be late.
RECOVERY = 6.0
ENDS = 20.0  # seconds for all clients to end: one that does not was forgotten by somebody


# Connections that the crowded servers have for `app`; fewer than ten MariaDB does not accept.
ROOM = 10


@dataclass
class FragileSite(Site):
    """A site whose server may be stopped."""

    operator: Operator | None = None


class Outcome(NamedTuple):
    """One request."""

    began: float
    ended: float
    error: Exception | None


class Clients:
    """So many clients in a closed loop, each request in a greenlet of its own."""

    def __init__(self, work: Callable[[], Any], number: int, pause: float = 0.02) -> None:
        self.outcomes: list[Outcome] = []
        self._work = work
        self._pause = pause
        self._stopping = False
        self._clients = [gevent.spawn(self._run) for _ in range(number)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping = True
        gevent.joinall(self._clients, timeout=ENDS, raise_error=True)
        asleep = [client for client in self._clients if not client.dead]
        gevent.killall(asleep)
        assert not asleep, f"{len(asleep)} clients sleep for ever"

    def _run(self) -> None:
        while not self._stopping:
            self._one()
            gevent.sleep(self._pause)

    def _one(self) -> None:
        began = time.monotonic()
        error = view(self._attempt)
        self.outcomes.append(Outcome(began, time.monotonic(), error))

    def _attempt(self) -> Exception | None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - judged by the test
            return error
        return None

    @property
    def failed(self) -> list[Outcome]:
        """What went wrong."""
        return [outcome for outcome in self.outcomes if outcome.error is not None]

    def wait_for_answers(self, more: int) -> None:
        """Until so many more requests went well."""
        wanted = self.answered() + more
        eventually(lambda: self.answered() >= wanted, f"{more} more answers; the last error is {self.failed[-1:]}")

    def wait_for_failures(self, more: int) -> None:
        """Until so many more requests failed."""
        wanted = len(self.failed) + more
        eventually(lambda: len(self.failed) >= wanted, f"{more} more failures")

    def first_success(self, since: float) -> float:
        """When the first request that began after `since` went well."""

        def found() -> list[float]:
            return [outcome.ended for outcome in self.outcomes if outcome.began >= since and outcome.error is None]

        eventually(lambda: bool(found()), f"a success; the last error is {self.failed[-1:]}")
        return min(found())

    def answered(self) -> int:
        """How many requests went well."""
        return len(self.outcomes) - len(self.failed)

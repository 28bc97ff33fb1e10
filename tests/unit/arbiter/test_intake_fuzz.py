"""A child that says anything at all never ends the arbiter, and never has it misjudge or hit another.

``FUZZ_SECONDS=600 pytest tests/unit/arbiter/test_intake_fuzz.py --timeout=700`` goes on for longer.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from djworker import log
from djworker.arbiter import events
from djworker.arbiter.child import Key
from djworker.arbiter.intake import MAY_SAY
from djworker.conf.table import OPTIONS
from djworker.ipc import messages
from djworker.ipc.scoreboard import ROW_SIZE
from tests.unit.arbiter.liar import CONFIG, Arbiter, Beds, alive, stranger

#: Seconds of it, each of which tells some hundred tales.
SECONDS = float(os.environ.get("FUZZ_SECONDS", "4"))
TALES_PER_ROUND = 100
LIARS: list[Key] = [("mold", 1), ("mold", 2), ("worker", 1), ("worker", 2), ("helper", 0)]
#: Bytes that are no message, each for a reason of its own.
NONSENSE = [
    b"",
    b"\n",
    b"[" * 50_000 + b"\n",
    b'["WorkerReady",{}]\n' * 3,
    b'["WorkerReady",{}]',
    b"x" * 290_000,
    b"\xff\n",
]
EDGES: list[Any] = [
    0,
    1,
    -1,
    2,
    3,
    4,
    2**31 - 1,
    2**31,
    2**63,
    10**30,
    True,
    None,
    "",
    "1",
    1.5,
    float("nan"),
    float("inf"),
    [],
    {},
]


class Tongue:
    """What a liar may think of: sense, nonsense, and what lies between."""

    def __init__(self, luck: random.Random, liar: Key, known: dict[str, int]) -> None:
        self.luck, self.liar, self.known = luck, liar, known

    def packet(self) -> bytes:
        """The next one."""
        kind = self.luck.random()
        if kind < 0.1:
            return self.luck.choice(NONSENSE)
        if kind < 0.2:
            return self.luck.randbytes(self.luck.randrange(200)) + b"\n"
        if kind < 0.3:
            return self.line(self.value(3))
        own = [cls.__name__ for cls in MAY_SAY[self.liar[0]]]
        name = self.luck.choice(own if kind < 0.65 else [*messages._KNOWN, "Future", "Garbled"])
        return self.line([name, self.fields(name)])

    @staticmethod
    def line(value: object) -> bytes:
        return json.dumps(value).encode() + b"\n"

    def fields(self, name: str) -> dict[str, object]:
        """As the message has them; now and then one too many, one too few, or of another type."""
        cls = messages._KNOWN.get(name)
        made = {key: self.fitting(key) for key in messages._CHECKS[cls]} if cls else {"a": self.value(2)}
        if made and self.luck.random() < 0.1:
            made[self.luck.choice(list(made))] = self.value(2)
        if self.luck.random() < 0.05:
            made["more"] = self.value(1)
        if made and self.luck.random() < 0.05:
            del made[self.luck.choice(list(made))]
        return made

    def fitting(self, key: str) -> object:
        """A value that such a field may have, and that may do harm."""
        if key == "config":
            changed = {self.luck.choice(list(OPTIONS)): self.value(2) for _ in range(self.luck.randrange(3))}
            return {**CONFIG.to_json(), **changed}
        choices: dict[str, list[object]] = {
            "worker_id": [0, 1, 2, 3, 3, 3, 4],
            "slot": [0, 1, 2, 3],
            "pid": [*self.known.values(), 0, 1, os.getpid(), os.getppid(), 2**22 + 1],
            "paths": [[], [self.text()], [self.text()] * 9],
            "grace": [0, 0.5, 1e9],
            "empty_backlog": [True, False],
        }
        return self.luck.choice(choices[key]) if key in choices else self.text()

    def text(self) -> str:
        return "".join(self.luck.choices("ab \n\0\x1b\ud800\U0001f600%{}", k=self.luck.randrange(20)))

    def value(self, depth: int) -> object:
        """Anything that JSON has."""
        kind = self.luck.randrange(8) if depth else 0
        if kind == 1:
            return [self.value(depth - 1) for _ in range(self.luck.randrange(4))]
        if kind == 2:
            return {self.text(): self.value(depth - 1) for _ in range(self.luck.randrange(4))}
        return self.text() if kind == 3 else self.luck.choice(EDGES)


class World(Arbiter):
    """An arbiter, a worker that the mold has yet to speak of, and a process that is no business of anyone here."""

    def __init__(self, bystander: int, beds: Beds) -> None:
        super().__init__(beds)
        self.third, self._fds = self.nameless()
        self.bystander = bystander
        self.pids["worker", 3] = self.third_pid = beds.take()
        self.known = {"bystander": bystander, **{f"{kind} {number}": pid for (kind, number), pid in self.pids.items()}}
        self.liars: set[Key] = set()

    def lie(self, liar: Key, luck: random.Random) -> None:
        """Have it say something, and spoil its own row; whoever is to die for it dies."""
        if liar not in self.children.by_key:
            return
        self.liars.add(liar)
        row = self.children.by_key[liar].row
        if row is not None:
            os.pwrite(row.fileno(), luck.randbytes(ROW_SIZE), 0)
        tongue = Tongue(luck, liar, self.known)
        self.hear(liar, [tongue.packet() for _ in range(luck.randrange(1, 5))])
        for worker in (1, 2):
            self.loop.happen(events.Heartbeat(worker, self.children.beat_of(worker)))
        self.loop.happen(events.DeadlineReached())

    def check(self) -> None:
        assert self.loop.exit_code is None
        assert alive(self.bystander)
        assert self.third.pid in (0, self.third_pid), "the nameless worker is taken for somebody else"
        # A mold answers for the worker that it has yet to speak of.
        excused = self.liars | ({("worker", 3)} if {("mold", 1), ("mold", 2)} & self.liars else set())
        for key, pid in self.pids.items():
            if key not in excused:
                child = self.children.by_key[key]
                assert alive(pid), f"{key} was hit"
                assert child.pid == (pid if key != ("worker", 3) else self.third.pid), f"{key} was misjudged"
                assert not child.doomed, f"{key} is to die"

    def close(self) -> None:
        if self.third.doomed and self.third.pid:  # the mold has named it, and then was believed no more
            os.waitpid(self.pids.pop(("worker", 3)), 0)
        for fd in self._fds:
            os.close(fd)
        super().close()


def one_tale(bystander: int, beds: Beds, number: int) -> None:
    luck = random.Random(number)
    world = World(bystander, beds)
    try:
        for _ in range(luck.randrange(1, 4)):
            world.lie(luck.choice(LIARS), luck)
            world.check()
    except Exception:  # noqa: BLE001 - whatever it is, it may quote a lie, and a report with a lone surrogate ends pytest-xdist
        told = ascii(traceback.format_exc()).replace("\\n", "\n")
    else:
        return
    finally:
        world.close()
    pytest.fail(f"tale {number}: {told}", pytrace=False)


@pytest.mark.timeout(SECONDS + 100)
def test_a_child_that_says_anything_ends_itself_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")  # a mold that is replaced is not to be loaded here
    log.configure("critical", "text", "test")
    before = len(list(Path("/dev/fd").iterdir()))
    bystander, beds, until, rounds = stranger(), Beds(), time.monotonic() + SECONDS, 0
    try:
        while time.monotonic() < until:
            rounds += 1
            _some_tales(bystander, beds)()
    finally:
        beds.close()
        with suppress(ProcessLookupError):
            os.kill(bystander, signal.SIGKILL)
        log.configure("info", "text", "test")
    print(f"{rounds * TALES_PER_ROUND} tales")
    assert len(list(Path("/dev/fd").iterdir())) == before


def _some_tales(bystander: int, beds: Beds) -> Callable[[], None]:
    @seed(random.SystemRandom().getrandbits(64))
    @settings(
        max_examples=TALES_PER_ROUND,
        phases=[Phase.generate],  # a tale is known by its number; there is nothing to make shorter
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**64))
    def told(number: int) -> None:
        one_tale(bystander, beds, number)

    return told

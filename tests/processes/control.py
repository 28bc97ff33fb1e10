"""The control client as people use it: a program, its words, its exit code and what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from djworker.control.client import ControlConnection
from djworker.control.gathering import gather
from djworker.control.places import Place, places
from djworker.control.schemas import SCHEMAS
from tests.processes.server import Server, environment
from tests.schema import complaints


def run(folder: Path, *words: str, manage: bool = False, environ: Mapping[str, str] | None = None) -> Ended:
    """``djworkerctl WORDS`` in a folder, or ``manage.py workers WORDS``."""
    program = ["manage.py", "workers"] if manage else ["-m", "djworker.control"]
    done = subprocess.run(
        [sys.executable, *program, *words],
        cwd=folder,
        env={**environment(environ or {}), "PWD": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


class Ended:
    """How it went."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit {self.code}\n--- out\n{self.out}\n--- err\n{self.err}"

    def json(self) -> dict[str, Any]:
        """What it printed with ``--json``, which is as its schema says."""
        assert self.code == 0, self
        found: dict[str, Any] = json.loads(self.out)
        wrong = list(complaints(SCHEMAS[found["verb"]], found))
        assert not wrong, wrong
        return found


def ctl(server: Server, *words: str, **kwargs: Any) -> Ended:
    """The client in the project's folder, which finds the server by that."""
    return run(server.project.folder, *words, **kwargs)


def clients_of(server: Server) -> int:
    """How many connections its control socket has. An accepted socket has the name of the one that listens."""
    address = place_of(server).address
    lines = Path("/proc/net/unix").read_text(errors="replace").splitlines()
    return sum(line.endswith(f" {address}") for line in lines) - 1


def place_of(server: Server) -> Place:
    """Where its control socket is."""
    [found] = [place for place in places() if place.pid == server.pid and place.uid == os.geteuid()]
    return found


def ask(server: Server, verb: str, **arguments: Any) -> dict[str, Any]:
    """What ``--json`` would print, without a program for it: a tenth of the time. It is as its schema says, where it has one."""
    said: dict[int, str] = {}
    result: dict[str, Any] = {}
    with ControlConnection(place_of(server).address) as connection:
        for reply in connection.ask(verb, arguments):
            if reply.kind == "piece":
                said[reply.fields["worker"]] = said.get(reply.fields["worker"], "") + reply.fields["text"]
            result = dict(reply.fields)
    answer = {"version": 1, "verb": verb, **gather(verb, result, said)}
    wrong = list(complaints(SCHEMAS[verb], answer)) if verb in SCHEMAS else []
    assert not wrong, wrong
    return answer

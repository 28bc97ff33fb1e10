"""A machine of its own, in which the documented files lie where the documentation says, and the documented users exist.

It is a mount and a network namespace: ``/srv`` and ``/run`` are empty, there is a user ``shop``, and every port is free. So a
documented configuration is run as it stands, without a substitution.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tests.docs import inside
from tests.docs.blocks import ROOT
from tests.processes.events import eventually

#: Of the user ``shop``: an account that nothing on this machine has.
UID = 48_211
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 where nothing answered."""

    status: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.text)


class Machine:
    """Namespaces, held by a process that also asks in them."""

    def __init__(self, scratch: Path) -> None:
        needed = [
            str(path) for path in dict.fromkeys(Path(name).resolve() for name in (sys.base_prefix, sys.prefix, ROOT))
        ]
        settings = json.dumps({"needed": needed, "uid": UID})
        self.scratch = scratch
        self._inside = subprocess.Popen(
            ["unshare", "--mount", "--net", sys.executable, inside.__file__, settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._running: list[Process] = []
        self._numbers = count()
        assert self._read() == "ready"

    # -- files --------------------------------------------------------------------------------------------------------

    def path(self, name: str) -> Path:
        """A file of the machine, as it is seen from outside."""
        return Path(f"/proc/{self._inside.pid}/root{name}")

    def write(self, name: str, text: str) -> Path:
        """Write a file there."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    # -- processes ----------------------------------------------------------------------------------------------------

    def command(
        self, words: Sequence[str], *, user: str = "", cwd: str = "/", environ: Mapping[str, str] | None = None
    ) -> list[str]:
        """What to run outside for a command to run there, with this environment and no other."""
        enter = ["nsenter", f"--target={self._inside.pid}", "--mount", "--net"]
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
        return [
            *enter,
            *become,
            "env",
            "-i",
            f"--chdir={cwd}",
            *(f"{name}={value}" for name, value in {"PATH": PATH, **(environ or {})}.items()),
            *words,
        ]

    def run(self, *words: str, **options: Any) -> str:
        """Run a command to its end, which must be a good one; what it said."""
        done = self.finish(*words, **options)
        assert done.returncode == 0, f"{words} ended with {done.returncode}\n{done.stdout}"
        return done.stdout

    def finish(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(words, **options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=100,
        )

    @contextmanager
    def running(self, *words: str, **options: Any) -> Iterator[Process]:
        """A command that goes on until the block ends."""
        process = Process(self.command(words, **options), self.scratch / f"{next(self._numbers)}.log")
        self._running.append(process)
        try:
            yield process
        finally:
            self._running.remove(process)
            process.end()

    # -- requests -----------------------------------------------------------------------------------------------------

    def request(
        self,
        address: str,
        path: str = "/",
        *,
        host: str = "shop.example",
        body: int | None = None,
        source: str = "",
        headers: Mapping[str, str] | None = None,
        file: bool = False,
    ) -> Answer:
        """One request, from within, with so many bytes of a body, or of a file in a form."""
        assert self._inside.stdin is not None
        asked = {
            "address": address,
            "path": path,
            "headers": {"Host": host, **(headers or {})},
            "body": body,
            "source": source,
            "file": file,
        }
        self._inside.stdin.write(json.dumps(asked) + "\n")
        self._inside.stdin.flush()
        return Answer(**self._read())

    def until_answered(self, address: str, path: str = "/", status: int = 200, **options: Any) -> Answer:
        """Ask until there is this answer."""
        answers: list[Answer] = []

        def asked() -> bool:
            answers.append(self.request(address, path, **options))
            return answers[-1].status == status or any(process.ended for process in self._running)

        eventually(asked, f"{address}{path} answers")
        told = "\n".join(process.output() for process in self._running)
        assert answers[-1].status == status, f"{answers[-1]}\n{told}"
        return answers[-1]

    def _read(self) -> Any:
        assert self._inside.stdout is not None
        line = self._inside.stdout.readline()
        assert line, "the machine could not be set up, or has ended"
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        assert self._inside.stdin is not None
        assert self._inside.stdout is not None
        self._inside.stdin.close()
        self._inside.wait(30)
        self._inside.stdout.close()


class Process:
    """A process of the machine, whose output is kept."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self.pid = self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def output(self) -> str:
        """All that it has said."""
        return self._log.read_text(errors="replace")

    def until_said(self, text: str) -> None:
        """Wait for these words."""
        eventually(lambda: text in self.output() or self._process.poll() is not None, f"{text!r} is said", 60)
        assert text in self.output(), self.output()

    def send(self, number: int) -> None:
        """Send the process itself a signal."""
        self._process.send_signal(number)

    @staticmethod
    def send_to(pid: int, number: int) -> None:
        """Send a child of it a signal."""
        os.kill(pid, number)

    def wait(self, timeout: float = 30) -> int:
        """Wait for its end."""
        return self._process.wait(timeout)

    def end(self) -> None:
        """End it gracefully, else by force."""
        if self._process.poll() is None:
            self.send(signal.SIGTERM)
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait()
            raise AssertionError(f"it did not end by itself\n{self.output()}") from None


def program(name: str) -> str:
    """Where a program is, also off an ordinary PATH."""
    found = shutil.which(name, path=PATH)
    assert found, f"{name} is not installed (make packages)"
    return found

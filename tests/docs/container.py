"""What Docker does with a Dockerfile and an image, for machines without it: each instruction is carried out in a chroot.

The base image is the system that runs the tests, read-only, with the interpreter of the test run. Nothing is downloaded: what
``pip install`` asks for has to be installed.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.blocks import ROOT
from tests.docs.machine import PATH, Machine, Process
from tests.processes.events import eventually

IMAGE = "/run/image"
CONTEXT = "/srv/context"
#: Of the base image.
BASE = tuple(name for name in ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc") if Path(name).exists())


@dataclass
class Image:
    """A folder that is the root of a container, and how one is run."""

    machine: Machine
    environ: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0"
    command: list[str] = field(default_factory=list)
    exposed: list[str] = field(default_factory=list)

    def build(self, dockerfile: str) -> None:
        """Carry out each instruction."""
        for line in re.sub(r"\\\n", " ", dockerfile).splitlines():
            word, _, rest = line.partition(" ")
            if word and not word.startswith("#"):
                getattr(self, f"_{word.lower()}")(rest.strip())

    def _from(self, _image: str) -> None:
        folder = self.machine.path(IMAGE)
        folder.mkdir()
        interpreter = [str(Path(name).resolve()) for name in (sys.base_prefix, ROOT)]
        outside = [] if Path(sys.prefix).is_relative_to(ROOT) else [sys.prefix]
        for name in dict.fromkeys((*BASE, *interpreter, *outside)):
            self.machine.path(IMAGE + name).mkdir(parents=True, exist_ok=True)
            self.machine.run("mount", "--bind", name, IMAGE + name)
            self.machine.run("mount", "-o", "remount,bind,ro", IMAGE + name)
        for name in ("tmp", "proc", "dev"):
            (folder / name).mkdir(exist_ok=True)
        self.environ["WEB_CONCURRENCY"] = "1"  # as in a cgroup with one processor
        self.environ["PATH"] = f"{sys.prefix}/bin:{PATH}"

    def _workdir(self, folder: str) -> None:
        self.workdir = folder
        self.machine.path(IMAGE + folder).mkdir(parents=True, exist_ok=True)

    def _copy(self, words: str) -> None:
        *sources, target = words.split()
        for source in sources:
            inside = f"{IMAGE}{self.workdir}/{target}"
            self.machine.run("cp", "-r", f"{CONTEXT}/{source}" + ("/." if source == "." else ""), inside)

    def _env(self, words: str) -> None:
        self.environ |= dict(item.partition("=")[::2] for item in shlex.split(words))

    def _run(self, line: str) -> None:
        # There is no network, and no writable base: what is asked for must be there already.
        environ = {**self.environ, "PIP_NO_INDEX": "1", "PIP_ROOT_USER_ACTION": "ignore"}
        self.machine.run("chroot", IMAGE, "env", f"--chdir={self.workdir}", "sh", "-c", line, environ=environ)

    def _user(self, name: str) -> None:
        self.user = name

    def _expose(self, port: str) -> None:
        self.exposed.append(port)

    def _cmd(self, words: str) -> None:
        self.command = json.loads(words)

    @contextmanager
    def running(
        self,
        command: Sequence[str] = (),
        *,
        tmp: bool = True,
        user: str = "",
        environ: Mapping[str, str] | None = None,
        terms: int = 1,
    ) -> Iterator[Process]:
        """``docker run --read-only`` with a network, and as PID 1; ``docker stop`` at the end."""
        steps = [
            "set -e; mount --make-rprivate /",
            f"mount --rbind {IMAGE} {IMAGE}; mount -t proc proc {IMAGE}/proc; mount --rbind /dev {IMAGE}/dev",
            f"mount -t tmpfs none {IMAGE}/tmp" if tmp else "",
            f"mount -o remount,bind,ro {IMAGE}",
            f'exec chroot --userspec={user or self.user}:0 {IMAGE} env --chdir={self.workdir} "$@"',
        ]
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", "\n".join(steps), "sh"]
        words += command or self.command
        with self.machine.running(*words, environ={**self.environ, **(environ or {})}) as process:
            try:
                yield process
            finally:
                self._stop(process, terms)

    @staticmethod
    def _stop(process: Process, terms: int) -> None:
        """TERM for PID 1, as ``docker stop`` sends it; the second one ends its delay."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        eventually(lambda: process.ended or children.read_text().split(), "the container has a PID 1")
        for pid in [] if process.ended else children.read_text().split():
            for _ in range(terms):
                process.send_to(int(pid), signal.SIGTERM)
                eventually(lambda: process.ended or '"event": "stop' in process.output(), "TERM is taken")
        assert process.wait() == 0, process.output()

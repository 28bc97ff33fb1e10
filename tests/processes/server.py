"""A real process tree, and the verbs with which a test treats it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.processes import procfs
from tests.processes.events import PATIENCE, Event, EventLog, eventually
from tests.processes.http import Address, Answer, Background, Load, Raw, request
from tests.processes.project import Project

#: Not DJWORKER_...: the configuration refuses what looks like a slip of the pen.
MARKER = "SHOP_TEST_ID"
#: Nothing of the desk's or the build server's environment may decide a test.
_FOREIGN = ("PORT", "WEB_CONCURRENCY", "DATABASE_URL", "NOTIFY_SOCKET", "PWD", "COV_CORE_SOURCE")
_FOREIGN_PREFIXES = ("DJWORKER_", "_DJWORKER_", "LISTEN_", "WATCHDOG_", "PYTEST_", "GEVENT_")
#: Short, so that tests are; long enough for a machine that does something else too.
OPTIONS = {
    "workers": 2,
    "timeout": 10,
    "boot_timeout": 90,
    "graceful_timeout": 8,
    "log_format": "json",
}
#: Said when something went wrong inside the server, whatever the test is about.
_BUGS = (
    "unknown_message",
    "housekeeping_failed",
    "connection_failed",
    "fork_failed",
    "hook_failed",
    "worker_boot_failed",
)
_LISTEN_START = 3  # sd_listen_fds(3)
#: Two ways to the same arbiter; the second one needs the name of the settings in its environment.
MANAGE = ("manage.py", "runworkers")
MODULE = ("-m", "djworker")
SETTINGS_MODULE = {"DJANGO_SETTINGS_MODULE": "testproject.settings"}


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """What a server of a test inherits."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _FOREIGN and not name.startswith(_FOREIGN_PREFIXES)
    }
    # A compiled file would be taken for the edited one's, when both were written within a second.
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "SHOP_DEBUG_VIEWS": "1", **extra}


def command(options: Mapping[str, Any], *words: str, program: Sequence[str] = MANAGE) -> list[str]:
    """``manage.py runworkers`` with these options; None leaves one out, a list repeats it."""
    flags = []
    for name, value in {**OPTIONS, **options}.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            flags.append(flag)
        elif value is not None:
            for item in value if isinstance(value, list | tuple) else [value]:
                flags += [flag, str(item)]
    return [sys.executable, "-X", "faulthandler", *program, *flags, *words]


class Server:
    """An arbiter and everything below it."""

    #: How it is started where a test does not say: without ``manage.py``, which loads every application for a sixth more work.
    program: Sequence[str] = MODULE

    def __init__(self, project: Project, scratch: Path) -> None:
        self.project = project
        self.scratch = scratch
        self.transcript = scratch / "stderr.log"
        self.output = scratch / "stdout.log"
        #: Events that this test provokes, and that are a bug elsewhere.
        self.expected: set[str] = set()
        self.tracebacks_expected = False
        #: Files that a server removes at its end, unless it was killed.
        self.leaves_nothing_at: list[Path] = []
        #: Unix sockets that it was given: they are systemd's, and stay.
        self._given: set[str] = set()
        self._killed = False
        self._deaf = False
        self._raws: list[Raw] = []
        self._mark = uuid4().hex
        self._listeners: set[str] = set()

    # -- starting -----------------------------------------------------------------------------------------------------

    def launch(
        self,
        *words: str,
        environ: Mapping[str, str] | None = None,
        inherit: Sequence[socket.socket] = (),
        pass_fds: Sequence[int] = (),
        prefix: Sequence[str] = (),
        program: Sequence[str] = (),
        **options: Any,
    ) -> None:
        """Start it, and wait for nothing. Sockets to *inherit* get the descriptors 3, 4 and so on."""
        settings = {} if program or self.program is MANAGE else SETTINGS_MODULE
        if "bind" not in options and not inherit:
            options["bind"] = "127.0.0.1:0"
        self._given = {str(sock.getsockname()) for sock in inherit}
        read, write = os.pipe()
        self._pipe = str(Path(f"/proc/self/fd/{write}").readlink())
        try:
            with self.output.open("ab") as output:
                self.process = subprocess.Popen(
                    [*prefix, *self._passing(inherit), *command(options, *words, program=program or self.program)],
                    cwd=self.project.folder,
                    env=environment({MARKER: self._mark, **settings, **(environ or {})}),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=write,
                    start_new_session=True,
                    pass_fds=[*pass_fds, *(sock.fileno() for sock in inherit)],
                )
        finally:
            os.close(write)
        self.pid = self.process.pid
        self._began = procfs.began(self.pid)
        self.log = EventLog(read, self.transcript, self._note)

    def _note(self, event: Event) -> None:
        """Keep which sockets it listens on: the system may give a port to another test's server as soon as it is free."""
        if event["event"] == "listening" and not (address := Address(event["address"])).is_unix:
            self._listeners |= procfs.listeners(address.port)

    def listens(self) -> bool:
        """Whether a socket that it was heard to listen on listens still, whichever process has it."""
        addresses = [Address(event["address"]) for event in self.events("listening")]
        return any(self._listeners & procfs.listeners(one.port) for one in addresses if not one.is_unix)

    @staticmethod
    def _passing(inherit: Sequence[socket.socket]) -> list[str]:
        """What systemd does: descriptors from 3 on, and the pid of who is to have them; ``exec`` keeps the pid."""
        if not inherit:
            return []
        moves = "; ".join(
            f"os.dup2({sock.fileno()}, {_LISTEN_START + number}, True)" for number, sock in enumerate(inherit)
        )
        code = f"import os, sys; {moves}; os.environ.update(LISTEN_PID=str(os.getpid())); os.execv(sys.argv[1], sys.argv[1:])"
        return [sys.executable, "-c", code]

    def start(self, *words: str, **kwargs: Any) -> Server:
        """Start it, and wait until every worker is ready."""
        self.launch(*words, **kwargs)
        workers = kwargs.get("workers", OPTIONS["workers"])
        if workers:
            self.wait_for("worker_ready", count=workers)
        return self

    # -- looking ------------------------------------------------------------------------------------------------------

    def wait_for(self, name: str, **kwargs: Any) -> Event:
        """See ``EventLog.wait_for``."""
        return self.log.wait_for(name, **kwargs)

    def events(self, name: str, since: int = 0, **fields: Any) -> list[Event]:
        """Such events so far."""
        return self.log.find(name, since, **fields)

    @property
    def address(self) -> Address:
        """Where it listens (the first address)."""
        return Address(self.wait_for("listening")["address"])

    @property
    def url(self) -> str:
        """The same, for other programs."""
        return self.address.text

    def ready(self) -> list[int]:
        """Pids of the workers that are ready now, as far as the log tells."""
        return list(ready_after(self.log.all()))

    def worker(self, slot: int = 0) -> int:
        """The pid of the latest worker of a slot that was ready."""
        return int(self.events("worker_ready", slot=slot)[-1]["pid"])

    def mold(self) -> int:
        """The pid of the latest mold that was ready."""
        return int(self.events("mold_ready")[-1]["pid"])

    def tree(self) -> list[int]:
        """Every living process of it, the arbiter included."""
        return procfs.tree(f"{MARKER}={self._mark}".encode(), self._pipe, self._began)

    def settled(self) -> list[int]:
        """The arbiter, its mold and its ready workers, once they are alone.

        The mold asks children of its own whether the code answers and whether migrations are lacking. Such a child may
        outlive the last ``worker_ready``: it is in ``tree()``, and gone a moment later.
        """

        def those() -> list[int]:
            return [self.pid, self.mold(), *self.ready()]

        eventually(lambda: set(self.tree()) == set(those()), "the arbiter, a mold and the ready workers are alone")
        return those()

    # -- asking -------------------------------------------------------------------------------------------------------

    def get(self, path: str, **kwargs: Any) -> Answer:
        """One request."""
        return request(self.address, path, **kwargs)

    def in_background(self, path: str, **kwargs: Any) -> Background:
        """One request, while the test goes on."""
        return Background(self.address, path, **kwargs)

    def running(self, path: str, count: int = 1, **kwargs: Any) -> list[Background]:
        """So many requests, of which the worker has begun each one: they are numbered, and a drill notes the numbers."""
        joint = "&" if "?" in path else "?"
        urls = [f"{path}{joint}begun={uuid4().hex}" for _ in range(count)]
        requests = [self.in_background(url, **kwargs) for url in urls]
        for url in urls:
            begun = self.project.folder / "begun" / url.rpartition("=")[2]
            eventually(begun.exists, f"{url} begins")
        return requests

    @contextmanager
    def held(self, path: str, count: int = 1) -> Iterator[list[Background]]:
        """So many requests, begun all of them, whose view goes on until the block ends: it looks for a file, ``until``."""
        gate = self.scratch / f"until-{uuid4().hex}"
        try:
            yield self.running(f"{path}?until={gate}", count)
        finally:
            gate.touch()

    def raw(self) -> Raw:
        """A connection, closed at the end of the test at the latest."""
        self._raws.append(Raw(self.address))
        return self._raws[-1]

    def load(self, **kwargs: Any) -> Load:
        """Clients that ask all the time."""
        return Load(self.address, **kwargs)

    def version(self) -> int:
        """Which code answers."""
        return int(self.get("/debug/pid").json()["version"])

    def wait_for_version(self, version: int) -> None:
        """Wait until new connections get this code. A worker that retires may take one more in its last moment."""
        eventually(lambda: {self.version() for _ in range(4)} == {version}, f"version {version} answers")

    # -- telling ------------------------------------------------------------------------------------------------------

    def send(self, number: signal.Signals, times: int = 1) -> int:
        """Send the arbiter a signal; the mark from which on to look for its effect."""
        mark = self.log.mark()
        for _ in range(times):
            os.kill(self.pid, number)
        return mark

    def hup(self) -> int:
        """Ask for a reload."""
        return self.send(signal.SIGHUP)

    def reload(self, **kwargs: Any) -> int:
        """Reload and wait until that is done, so that only new workers accept; the mark before."""
        mark = self.hup()
        self.wait_for("reload_done", since=mark, **kwargs)
        return mark

    def term(self) -> int:
        """Ask for a graceful stop."""
        return self.send(signal.SIGTERM)

    def interrupt(self) -> int:
        """Ask for a fast stop."""
        return self.send(signal.SIGINT)

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a process of the tree a signal; the mark before."""
        mark = self.log.mark()
        os.kill(pid, number)
        return mark

    @contextmanager
    def suspended(self, *pids: int) -> Iterator[None]:
        """These processes stand still meanwhile. They go on afterwards, whatever becomes of the test."""
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            eventually(lambda: all(procfs.state(pid) == "T" for pid in pids), "all of them stand still")
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def kill_arbiter(self) -> None:
        """What no program can prepare for."""
        self._killed = True
        self.process.kill()
        self.process.wait()

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for the arbiter's end; its exit code, minus the signal where one ended it."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the arbiter still runs after {timeout:g} s; it said\n{self.log.text()}") from None

    def stop(self) -> int:
        """Stop it gracefully; its exit code."""
        self.term()
        return self.wait()

    # -- promises -----------------------------------------------------------------------------------------------------

    def fewest_ready(self, since: int) -> int:
        """The smallest number of ready workers from then on."""
        counts = ready_counts(self.log.all(), since)
        return min(counts)

    @contextmanager
    def same_descriptors(self) -> Iterator[None]:
        """The arbiter has no more descriptors afterwards than before, once things have settled.

        It may have fewer: what ended just before we looked may not have been buried yet.
        """
        before = procfs.descriptors(self.pid)
        yield
        try:
            eventually(lambda: len(procfs.descriptors(self.pid)) <= len(before), "no more descriptors than before")
        except AssertionError:
            raise AssertionError(f"descriptors: {before} before, {procfs.descriptors(self.pid)} now") from None

    def stop_reading(self) -> None:
        """From now on nobody reads its standard error; writing there fails."""
        self._deaf = True
        self.log.abandon()

    def story(self) -> str:
        """All that it said."""
        return self.log.text() if hasattr(self, "log") else "never started"

    def close(self) -> None:
        """End it and check what every server promises, whatever became of it."""
        if not hasattr(self, "process"):
            return
        addresses = [Address(event["address"]) for event in self.events("listening")]
        try:
            self._end()
            self._check_nobody_is_left()
            self._check_nothing_is_left(addresses)
            self._check_the_log()
        except BaseException:
            self._end_by_force()
            raise
        finally:
            for raw in self._raws:
                raw.close()

    def _end(self) -> None:
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGCONT)  # a test that failed may have left it stopped
            code = self.stop()
            assert code == 0, f"exit code {code}; it said\n{self.log.text()}"

    def _check_nobody_is_left(self) -> None:
        gone = self.log.wait_for_end() and (not self._deaf or eventually(lambda: not self.tree(), "nobody is left"))
        left = {pid: procfs.title(pid) for pid in self.tree()}
        assert gone, f"somebody still holds standard error: {left}\n{self.log.text()}"
        assert not left, f"still there: {left}"

    def _check_nothing_is_left(self, addresses: Sequence[Address]) -> None:
        assert not self.listens(), f"a port is still in use: {addresses}"
        for address in addresses:
            if not address.is_unix:
                continue
            if address.path in self._given:
                assert Path(address.path).exists(), f"{address.path} is not its own, and was removed"
            elif not self._killed and not address.path.startswith("\0"):
                assert not Path(address.path).exists(), f"{address.path} was left behind"
        for path in self.leaves_nothing_at:
            assert self._killed or not path.exists(), f"{path} was left behind"

    def _check_the_log(self) -> None:
        found = [event for event in self.log.all() if event["event"] in _BUGS and event["event"] not in self.expected]
        assert not found, found
        if not self.tracebacks_expected:
            raw = [event["text"] for event in self.events("raw")]
            assert not any("Traceback (most recent call last)" in line for line in raw), "\n".join(raw)

    def _end_by_force(self) -> None:
        """After a failed check: nothing of this test may disturb the next one."""
        deadline = time.monotonic() + 10
        while (left := self.tree()) and time.monotonic() < deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


def ready_after(events: Sequence[Event]) -> dict[int, int]:
    """Workers that are ready after these events: pid to slot."""
    ready: dict[int, int] = {}
    for event in events:
        _count(ready, event)
    return ready


def ready_counts(events: Sequence[Event], since: int) -> list[int]:
    """How many workers were ready at event *since* and after each later one."""
    ready = ready_after(events[:since])
    counts = [len(ready)]
    for event in events[since:]:
        _count(ready, event)
        counts.append(len(ready))
    return counts


def _count(ready: dict[int, int], event: Event) -> None:
    if event["event"] == "worker_ready":
        ready[event["pid"]] = event["slot"]
    elif event["event"] in ("worker_retired", "worker_gone", "worker_killed"):
        ready.pop(event["pid"], None)

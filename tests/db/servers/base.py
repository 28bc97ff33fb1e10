"""What the two database servers share: a data directory, a port, a process, and how they come and go."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import quote, urlencode

from djworker.process import unpatched
from tests.ports import HOST, free_port

LAUNCHER = Path(__file__).with_name("launch.py")
START_ATTEMPTS = 5  # a free port may be taken by another run between our look and the server's bind
START_DEADLINE = 60.0  # seconds; a busy two-core runner needs up to ten
STOP_DEADLINE = 30.0  # seconds, then SIGKILL
PREFIX = "djworker-"  # of every data directory
MEMORY = Path("/dev/shm")
ABANDONED_AFTER = 60.0  # seconds; a younger directory may just not be locked yet
MEMORY_NEEDED = 4 << 30  # bytes; a server takes some 200 MB, and a run that is spread over processes has a dozen


# The administrator's idle connections, by process and data directory: a child of a fork must not use its parent's.
_kept: dict[tuple[int, Path], list[Any]] = {}


class ServerUnavailable(RuntimeError):
    """The server's binaries are not installed, or it does not start; the message holds its log."""


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll `condition` until it is true. Raises TimeoutError, naming `what`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


def room() -> Path | None:
    """Where data directories go: into memory, if there is much of it. A database is 300 files, and most tests make one."""
    if not MEMORY.is_dir() or not os.access(MEMORY, os.W_OK):
        return None
    remove_abandoned(MEMORY)
    return MEMORY if shutil.disk_usage(MEMORY).free >= MEMORY_NEEDED else None


def remove_abandoned(room: Path) -> None:
    """Remove the directories of test runs that were killed: in memory they would cost until the next boot.

    Each owner holds a lock on its directory, so this is right across containers too, where process numbers say nothing.
    """
    for left in room.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # of another user, in use, or gone in the meantime
            if time.time() - left.stat().st_mtime < ABANDONED_AFTER:
                continue
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)


def readable(line: Any) -> bool:
    """Whether something has come that was not asked for: on an idle connection it is the server's farewell, or news.

    No other greenlet runs meanwhile: one that kills ours would leave a connection open that is in no list.
    """
    poll = unpatched("select", "poll")()
    poll.register(line, select.POLLIN)
    return bool(poll.poll(0))


def account(*names: str) -> str:
    """The first of `names` that is a user here; empty when we are not root and need nobody else."""
    if os.geteuid() != 0:
        return ""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in names if name in known)


class DatabaseServer(ABC):
    """One server of our own. A context manager: `with PostgresServer() as server: server.url("shop")`.

    Two users exist: `app` (password `secret`, may create databases, no superuser, so limits bind it), and an
    administrator that only this class uses.
    """

    scheme: str
    user = "app"
    password = "secret"
    maintenance_db: str
    accounts: tuple[str, ...]
    # What each mode of stop() sends: "smart" waits for clients, "fast" disconnects them, "immediate" is a crash.
    stop_signals: ClassVar[dict[str, signal.Signals]]
    # Whether many tests share it, so that it stays up and has room: then logins are made cheap, and the administrator keeps
    # his connection for the next statement. A connect costs more than most statements.
    shared = False

    def __init__(self, *, max_connections: int = 200, **settings: str) -> None:
        """:param settings: further server settings, e.g. `log_statement="all"`."""
        self.max_connections = max_connections
        self.settings = settings
        self.host = HOST
        self.port = 0
        self.pid = 0
        self.directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = -1

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None, "_lock": -1}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
            os.close(self._lock)

    # -- lifecycle ------------------------------------------------------------------------------------------------

    @property
    def data(self) -> Path:
        """The data directory; sockets and the log stand beside it."""
        assert self.directory is not None
        return self.directory / "data"

    @property
    def log(self) -> str:
        """What the server wrote so far."""
        assert self.directory is not None
        path = self.directory / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start the server and return when it answers. The first start chooses the port, later ones keep it."""
        if self.directory is None:
            self._initialise()
        for _ in range(1 if self.port else START_ATTEMPTS):
            port, self.port = self.port, self.port or free_port()
            if self._launch():
                if not port:
                    self._prepare()
                return
            self.port = port
        raise ServerUnavailable(f"{type(self).__name__} does not start:\n{self.log[-4000:]}")

    def stop(self, mode: str = "fast") -> None:
        """End the process and wait for its end; one that ignores the signal is killed."""
        idle = self._idle()
        while idle:
            idle.pop().close()
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(self.stop_signals[mode])
        try:
            process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self, mode: str = "fast") -> None:
        """Stop ("smart", "fast", or "immediate" for a crash) and start again on the same port and data."""
        self.stop(mode)
        self.start()

    def _initialise(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{self.scheme}-", dir=room()))
        self._lock = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        user = account(*self.accounts)
        if user:
            shutil.chown(self.directory, user)
        self._install(user)

    def _launch(self) -> bool:
        assert self.directory is not None
        with (self.directory / "server.log").open("ab") as log:
            self._process = self._spawn(account(*self.accounts), self._command(), log)
        self.pid = self._process.pid
        process = self._process
        try:
            wait_until(lambda: process.poll() is not None or self.answers(), START_DEADLINE, "the server answers")
        except BaseException:
            self.stop("immediate")
            raise
        return process.poll() is None

    def _spawn(self, user: str, command: list[str], output: Any) -> subprocess.Popen[bytes]:
        last_will = str(int(self.stop_signals["immediate"]))
        launcher = [sys.executable, "-S", "-E", str(LAUNCHER), user, str(os.getpid()), last_will]
        return subprocess.Popen(  # a session of its own: Ctrl-C in the terminal is ours to handle
            [*launcher, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )

    def _run(self, user: str, *command: str) -> None:
        assert self.directory is not None
        log = self.directory / "install.log"
        with log.open("ab") as output:
            status = self._spawn(user, list(command), output).wait(START_DEADLINE)
        if status:
            raise ServerUnavailable(f"{command[0]} failed ({status}):\n{log.read_text(errors='replace')[-4000:]}")

    def answers(self) -> bool:
        """Whether the administrator gets in."""
        with contextlib.suppress(Exception):
            self.execute("SELECT 1")
            return True
        return False

    # -- what a server must know ----------------------------------------------------------------------------------

    @abstractmethod
    def _install(self, user: str) -> None:
        """Create the data directory."""

    @abstractmethod
    def _command(self) -> list[str]:
        """The server's command line."""

    @abstractmethod
    def _prepare(self) -> None:
        """Create the user `app`, after the first start."""

    @abstractmethod
    def _connect(self, dbname: str) -> Any:
        """A connection of the administrator, in autocommit mode."""

    @abstractmethod
    def _line(self, connection: Any) -> Any:
        """What of it can be polled."""

    @abstractmethod
    def _ask(self, connection: Any, sql: str, params: tuple[object, ...]) -> list[tuple[Any, ...]]:
        """Run one statement there; its rows."""

    @abstractmethod
    def connections(self, dbname: str = "") -> int:
        """How many client connections the *server* counts (to `dbname`, or all), our own question left out."""

    @abstractmethod
    def activity(self, dbname: str = "") -> list[tuple[int, str, str]]:
        """(id, state, query) of each client connection; state is "idle" when nothing runs."""

    @abstractmethod
    def terminate_backends(self, dbname: str = "") -> int:
        """Cut every client connection (to `dbname`, or all) from the server's side; how many."""

    # -- the administrator ----------------------------------------------------------------------------------------

    def execute(self, sql: str, params: tuple[object, ...] = (), dbname: str = "") -> list[tuple[Any, ...]]:
        """Run one statement as administrator; its rows. It must leave nothing in its session."""
        idle = self._idle() if dbname in ("", self.maintenance_db) else []
        connection = self._usable(idle) or self._connect(dbname)
        done = False
        try:
            rows = self._ask(connection, sql, params)
            done = True
        finally:
            if done and idle is self._idle():
                idle.append(connection)
            else:
                connection.close()
        return rows

    def _idle(self) -> list[Any]:
        """The administrator's idle connections to the maintenance database.

        Only the main thread has some: a socket of gevent's is bound to the loop of its thread.
        """
        if not self.shared or self.directory is None or threading.get_native_id() != threading.main_thread().native_id:
            return []
        return _kept.setdefault((os.getpid(), self.directory), [])

    def _usable(self, idle: list[Any]) -> Any:
        """One of those that the server has not closed. Another greenlet may use the others."""
        while idle:
            connection = idle.pop()
            if not readable(self._line(connection)):
                return connection
            connection.close()
        return None

    # -- databases ------------------------------------------------------------------------------------------------

    def create_database(self, name: str) -> None:
        """An empty database that belongs to `app`."""
        self.execute(f"CREATE DATABASE {name}")

    def drop_database(self, name: str) -> None:
        """Remove the database, after cutting who is still connected to it."""
        self.terminate_backends(name)
        self.execute(f"DROP DATABASE IF EXISTS {name}")

    def url(
        self, dbname: str, *, host: str = "", port: int = 0, user: str = "", password: str = "", **query: str
    ) -> str:
        """A DATABASE_URL; `host` and `port` lead through a proxy, `query` becomes Django's OPTIONS."""
        name, secret = user or self.user, quote(password or self.password, safe="")
        options = f"?{urlencode(query)}" if query else ""
        return f"{self.scheme}://{name}:{secret}@{host or self.host}:{port or self.port}/{dbname}{options}"

"""A PgBouncer of our own, in front of a PostgreSQL of our own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

from tests.db.servers.base import LAUNCHER, ServerUnavailable, account, wait_until
from tests.db.servers.postgres import PostgresServer
from tests.ports import HOST, free_port

CONFIGURATION = """\
[databases]
* = host={server.host} port={server.port}
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
logfile = {folder}/log
pool_mode = {mode}
default_pool_size = {size}
"""
START_DEADLINE = 20.0  # seconds


class PgBouncer:
    """A context manager: `with PgBouncer(server, "transaction") as bouncer: bouncer.port`."""

    host = HOST

    def __init__(self, server: PostgresServer, mode: str, size: int = 20) -> None:
        """mode: "session", "transaction" or "statement"; size: sessions at most."""
        self.server = server
        self.mode = mode
        self.size = size
        self.port = free_port()

    def __enter__(self) -> Self:
        program = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin") or shutil.which("pgbouncer")
        if program is None:
            raise ServerUnavailable("no pgbouncer here: install it (Debian: pgbouncer)")
        self._folder = Path(tempfile.mkdtemp(prefix="djworker-pgbouncer-"))
        text = CONFIGURATION.format(
            server=self.server, host=HOST, port=self.port, folder=self._folder, mode=self.mode, size=self.size
        )
        (self._folder / "ini").write_text(text)
        (self._folder / "users").write_text(f'"{self.server.user}" "{self.server.password}"\n')
        user = account("postgres", "nobody")  # it does not run as root
        for path in (self._folder, *self._folder.iterdir()) if user else ():
            shutil.chown(path, user)
        launcher = [sys.executable, "-S", "-E", str(LAUNCHER), user, str(os.getpid()), str(int(signal.SIGKILL))]
        self._process = subprocess.Popen(
            [*launcher, program, "-q", str(self._folder / "ini")], stdin=subprocess.DEVNULL, start_new_session=True
        )
        wait_until(self._answers, START_DEADLINE, "PgBouncer answers")
        return self

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(**self.server.params("postgres", port=self.port), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def __exit__(self, *exc: object) -> None:
        with self._process:
            self._process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

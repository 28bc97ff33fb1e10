"""A PostgreSQL of our own."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, ClassVar

from tests.db.servers.base import DatabaseServer, ServerUnavailable

# `app` has to show its password, as in production; the administrator comes in through the socket in our directory.
HBA = """\
local all postgres trust
host all shut all reject
host all all 127.0.0.1/32 scram-sha-256
"""
# Durability is not what these tests are about, and fsync is what makes them slow.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "32MB",
    # A test may end while its pool connects, and nothing goes on in its interpreter until the next one: to drop the database
    # waits for that login.
    "authentication_timeout": "5s",
}
# From PostgreSQL 15 on a new database is written to the log page by page, for six times the CPU of a copy.
STRATEGIES_SINCE = 150000
GONE_LOOKS = 50  # of some milliseconds, for sessions that were cut


@functools.cache
def binaries() -> Path:
    """The directory of `initdb` and `postgres`, which distributions keep off the PATH."""
    if program := shutil.which("pg_config"):
        found = Path(subprocess.run([program, "--bindir"], capture_output=True, text=True, check=True).stdout.strip())
        if (found / "initdb").exists():
            return found
    for found in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (found / "initdb").exists():
            return found
    if program := shutil.which("initdb"):
        return Path(program).parent
    raise ServerUnavailable("no initdb here: install the PostgreSQL server (Debian: postgresql)")


def verifier(password: str) -> str:
    """What PostgreSQL stores of a password (RFC 5803), but for one round: its 4096 cost each client 2 ms of CPU a login."""
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    client, server = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
    encoded = [base64.b64encode(part).decode() for part in (salt, hashlib.sha256(client).digest(), server)]
    return "SCRAM-SHA-256$1:{}${}:{}".format(*encoded)


class PostgresServer(DatabaseServer):
    """PostgreSQL in a temporary directory."""

    scheme = "postgres"
    maintenance_db = "postgres"
    accounts = ("postgres", "nobody")
    stop_signals: ClassVar[dict[str, signal.Signals]] = {
        "smart": signal.SIGTERM,
        "fast": signal.SIGINT,
        "immediate": signal.SIGQUIT,
    }
    _strategy = ""

    def _install(self, user: str) -> None:
        options = ["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username=postgres"]
        self._run(user, str(binaries() / "initdb"), "-D", str(self.data), *options)
        (self.data / "pg_hba.conf").write_text(HBA)

    def _command(self) -> list[str]:
        settings = {
            **FAST,
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            "max_connections": str(self.max_connections),
            **self.settings,
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(binaries() / "postgres"), "-D", str(self.data), *flags]

    def _prepare(self) -> None:
        secret = verifier(self.password) if self.shared else self.password
        self.execute(f"CREATE ROLE {self.user} LOGIN CREATEDB PASSWORD '{secret}'")
        # The first session in a database writes a file of what it has read of the catalogue. Databases are copies of this one.
        self.execute("SELECT 1", dbname="template1")
        [(version,)] = self.execute("SHOW server_version_num")
        if int(version) >= STRATEGIES_SINCE:
            self._strategy = " STRATEGY file_copy"

    def create_database(self, name: str) -> None:
        self.execute(f"CREATE DATABASE {name} OWNER {self.user}{self._strategy}")

    def drop_database(self, name: str) -> None:
        """As ever; a pool that lives on may knock between the cut and the drop, and is kept out."""
        if self.shared and self.terminate_backends(name):
            # The drop itself would look only each tenth of a second whether they are gone.
            for _ in range(GONE_LOOKS):
                if not self.connections(name):
                    break
                time.sleep(0.004)
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _connect(self, dbname: str) -> Any:
        import psycopg

        return psycopg.connect(
            host=str(self.directory),
            port=self.port,
            user="postgres",
            dbname=dbname or self.maintenance_db,
            autocommit=True,
            application_name="tests-admin",
            connect_timeout=10,
        )

    def _line(self, connection: Any) -> Any:
        return connection

    def _ask(self, connection: Any, sql: str, params: tuple[object, ...]) -> list[tuple[Any, ...]]:
        cursor = connection.execute(sql, params or None)
        return cursor.fetchall() if cursor.description else []

    def _clients(self, columns: str, dbname: str) -> list[tuple[Any, ...]]:
        return self.execute(
            f"SELECT {columns} FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND pid <> pg_backend_pid() AND application_name <> 'tests-admin' AND %s::text IN ('', datname::text)",
            (dbname,),
        )

    def connections(self, dbname: str = "") -> int:
        count: int = self._clients("count(*)", dbname)[0][0]
        return count

    def activity(self, dbname: str = "") -> list[tuple[int, str, str]]:
        return [(pid, state or "", query or "") for pid, state, query in self._clients("pid, state, query", dbname)]

    def terminate_backends(self, dbname: str = "") -> int:
        return len(self._clients("pg_terminate_backend(pid)", dbname))

    def params(self, dbname: str, **more: Any) -> dict[str, Any]:
        """Keyword arguments for `psycopg.connect` and `psycopg2.connect`."""
        base = {"host": self.host, "port": self.port, "user": self.user, "password": self.password, "dbname": dbname}
        return {**base, **more}

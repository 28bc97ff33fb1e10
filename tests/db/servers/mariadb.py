"""A MariaDB of our own."""

from __future__ import annotations

import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any, ClassVar

from tests.db.servers.base import DatabaseServer, ServerUnavailable

# Durability is not what these tests are about, and fsync is what makes them slow.
FAST = {
    "innodb_flush_log_at_trx_commit": "0",
    "innodb_doublewrite": "0",
    "innodb_buffer_pool_size": "64M",
    "innodb_log_file_size": "16M",
    "innodb_use_native_aio": "0",
    "performance_schema": "OFF",
    "skip_log_bin": "",
    "skip_name_resolve": "",
}

# A full server has one more place, for the administrator, and that may still be taken by his last visit.
CON_COUNT_ERROR = 1040
FULL_DEADLINE = 10.0  # seconds


def program(*names: str) -> str:
    """Path of the first of `names`; servers live in sbin, which is not on every PATH."""
    for name in names:
        if found := shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/libexec") or shutil.which(name):
            return found
    raise ServerUnavailable(f"no {names[0]} here: install the MariaDB server (Debian: mariadb-server)")


class MariaDBServer(DatabaseServer):
    """MariaDB in a temporary directory."""

    scheme = "mysql"
    maintenance_db = "mysql"
    accounts = ("mysql", "nobody")
    # "fast" and "smart" are one thing here: the server cuts its clients.
    stop_signals: ClassVar[dict[str, signal.Signals]] = {
        "smart": signal.SIGTERM,
        "fast": signal.SIGTERM,
        "immediate": signal.SIGKILL,
    }

    @property
    def door(self) -> Path:
        """The socket through which the administrator comes."""
        assert self.directory is not None
        return self.directory / "mysqld.sock"

    def _install(self, user: str) -> None:
        self._run(
            user,
            program("mariadb-install-db", "mysql_install_db"),
            "--no-defaults",
            f"--datadir={self.data}",
            f"--tmpdir={self.directory}",  # a server that starts removes the temporary tables of all others from /tmp
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        )

    def _command(self) -> list[str]:
        settings = {
            **FAST,
            "datadir": str(self.data),
            "socket": str(self.door),
            "pid_file": f"{self.directory}/mysqld.pid",
            "tmpdir": str(self.directory),
            "bind_address": self.host,
            "port": str(self.port),
            "max_connections": str(self.max_connections),
            "character_set_server": "utf8mb4",
            **self.settings,
        }
        flags = [
            f"--{name.replace('_', '-')}={value}" if value else f"--{name.replace('_', '-')}"
            for name, value in settings.items()
        ]
        return [program("mariadbd", "mysqld"), "--no-defaults", *flags]

    def _prepare(self) -> None:
        who = f"'{self.user}'@'{self.host}'"
        self.execute(f"CREATE USER {who} IDENTIFIED BY '{self.password}'")
        self.execute(f"GRANT ALL ON *.* TO {who}")
        # Without these, max_connections and read-only bind `app` as they bind an application in production.
        self.execute(f"REVOKE SUPER, CONNECTION ADMIN, READ_ONLY ADMIN ON *.* FROM {who}")

    def _connect(self, dbname: str) -> Any:
        import pymysql

        deadline = time.monotonic() + FULL_DEADLINE
        while True:
            try:
                return self._connect_once(dbname)
            except pymysql.err.OperationalError as refusal:
                if refusal.args[0] != CON_COUNT_ERROR or time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    def _connect_once(self, dbname: str) -> Any:
        import pymysql

        line = socket.socket(socket.AF_UNIX)  # PyMySQL leaks a socket of its own when nobody listens yet
        try:
            line.connect(str(self.door))
            connection = pymysql.Connection(
                user="root", database=dbname or None, autocommit=True, ssl_disabled=True, defer_connect=True
            )
            connection.connect(line)
        except BaseException:
            line.close()
            raise
        return connection

    def _line(self, connection: Any) -> Any:
        return connection._sock

    def _ask(self, connection: Any, sql: str, params: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(sql, params or None)
            return list(cursor.fetchall())

    def _clients(self, dbname: str) -> list[tuple[Any, ...]]:
        return self.execute(
            "SELECT id, command, info FROM information_schema.processlist"
            " WHERE id <> connection_id() AND user NOT IN ('system user', 'root') AND %s IN ('', coalesce(db, ''))",
            (dbname,),
        )

    def connections(self, dbname: str = "") -> int:
        return len(self._clients(dbname))

    def activity(self, dbname: str = "") -> list[tuple[int, str, str]]:
        return [
            (thread, "idle" if command == "Sleep" else "active", info or "")
            for thread, command, info in self._clients(dbname)
        ]

    def terminate_backends(self, dbname: str = "") -> int:
        import pymysql

        killed = 0
        for thread, _, _ in self._clients(dbname):
            try:
                self.execute(f"KILL {thread}")
            except pymysql.err.OperationalError as gone:
                if gone.args[0] != 1094:  # "unknown thread id": it went by itself in the meantime
                    raise
            else:
                killed += 1
        return killed

    def params(self, dbname: str, **more: Any) -> dict[str, Any]:
        """Keyword arguments for `MySQLdb.connect` and `pymysql.connect`, named as Django names them."""
        base = {"host": self.host, "port": self.port, "user": self.user, "password": self.password, "database": dbname}
        return {**base, "charset": "utf8mb4", **more}

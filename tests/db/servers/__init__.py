"""Real database servers for tests and benchmarks, started from the installed binaries.

    from tests.db.servers import MariaDBServer, PostgresServer

Each server has its own data directory and a free port, and dies with the process that started it.
A handle may be pickled into another process: there it can ask and terminate, but not start or stop.
"""

from __future__ import annotations

from tests.db.servers.base import DatabaseServer, ServerUnavailable
from tests.db.servers.mariadb import MariaDBServer
from tests.db.servers.postgres import PostgresServer

__all__ = ["DatabaseServer", "MariaDBServer", "PostgresServer", "ServerUnavailable"]

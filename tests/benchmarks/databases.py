"""What a scenario needs beside its server: a database with the shop in it, and the slow outside service."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.launch import ROOT, RunningServer, environment, free_port, wait_until
from tests.benchmarks.scenarios import Scenario
from tests.benchmarks.servers import HOST
from tests.db.servers import DatabaseServer, MariaDBServer, PostgresServer

DATABASE = "shop"
MAX_CONNECTIONS = 300  # above what the pools without a bound open, so that they are slow here but do not fail
SERVICE_DEADLINE = 30.0
# Without TLS on both, so that no row pays for it.
SERVERS: Mapping[str, Callable[[], DatabaseServer]] = {
    "postgresql": lambda: PostgresServer(max_connections=MAX_CONNECTIONS),
    "mariadb": lambda: MariaDBServer(max_connections=MAX_CONNECTIONS, skip_ssl=""),
}


class PreparationError(RuntimeError):
    """The database or the slow service of a scenario could not be made ready."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is there while the rows of a scenario run."""

    env: Mapping[str, str]
    server: DatabaseServer | None = None

    def connections(self) -> int:
        """Connections of the measured server, as the database counts them; 0 without a database."""
        return self.server.connections(DATABASE) if self.server else 0


@contextlib.contextmanager
def surroundings(scenario: Scenario, out: Path) -> Iterator[Surroundings]:
    """Start what the scenario needs, and stop it at the end. Runs on the core of the load, as it inherits ours."""
    with contextlib.ExitStack() as stack:
        server = None
        env = {"DATABASE_URL": f"sqlite:///{out / 'bench.sqlite3'}", "MEDIA_ROOT": str(out / "media")}
        if scenario.database:
            server = stack.enter_context(SERVERS[scenario.database]())
            server.create_database(DATABASE)
            env["DATABASE_URL"] = server.url(DATABASE)
            manage(env, "migrate", "--verbosity=0")
            manage(env, "seed")
        if scenario.slow_service:
            env["SLOW_SERVICE_URL"] = stack.enter_context(slow_service(out / f"{scenario.name}-slowservice.log"))
        yield Surroundings(env, server)


def manage(env: Mapping[str, str], *words: str) -> None:
    """Run a management command of the test project. Raises PreparationError with its output."""
    done = subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env=environment(env),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PreparationError(f"manage.py {' '.join(words)} ended with {done.returncode}\n{done.stdout}{done.stderr}")


@contextlib.contextmanager
def slow_service(log: Path) -> Iterator[str]:
    """The stand-in for somebody else's slow service; its URL."""
    port = free_port()
    with RunningServer([sys.executable, "manage.py", "slowservice", str(port)], port=port, env={}, log=log) as service:
        if not wait_until(service.listens, SERVICE_DEADLINE):
            raise PreparationError(f"the slow service does not start\n{service.tail()}")
        yield f"http://{HOST}:{port}"

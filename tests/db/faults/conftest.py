"""Faults of the server, the network and the workers: some run as the lease's tests do, some on a real process tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.db.faults.clients import ROOM, FragileSite
from tests.db.lease.conftest import (  # noqa: F401
    LEASES,
    SERVERS,
    leasing,
    mysql_site,
    postgres_site,
    psycopg3_site,
    run_there,
    site,
)
from tests.db.lease.site import DRIVERS, Site
from tests.db.operator import Operator
from tests.db.proxy import TCPProxy
from tests.db.servers import DatabaseServer, MariaDBServer, PostgresServer
from tests.processes.conftest import make_server, project, scratch, server, template  # noqa: F401


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """They share interpreters: what one fault leaves behind in a process, the next one has to cope with."""
    return run_there(pyfuncitem, __name__)


@pytest.fixture(scope="session")
def postgres_operator() -> Iterator[Operator]:
    """Of a PostgreSQL that nobody else uses."""
    with PostgresServer() as own, Operator(own) as operator:
        yield operator


@pytest.fixture(scope="session")
def mariadb_operator() -> Iterator[Operator]:
    """Of a MariaDB that nobody else uses."""
    with MariaDBServer() as own, Operator(own) as operator:
        yield operator


@pytest.fixture(params=[(driver, lease) for driver in DRIVERS for lease in LEASES], ids="-".join)
def fragile(request: pytest.FixtureRequest, proxy: Callable[[DatabaseServer], TCPProxy]) -> Iterator[FragileSite]:
    """Every driver with both leases, on a server that can be stopped."""
    driver, lease = request.param
    operator: Operator = request.getfixturevalue(f"{SERVERS[DRIVERS[driver].dialect]}_operator")
    name = f"fragile_{driver}_{lease}"
    operator.server.create_database(name)
    yield FragileSite(driver, lease, operator.server, proxy(operator.server), name, operator=operator)
    operator.server.drop_database(name)


@pytest.fixture(scope="session")
def crowded_postgres() -> Iterator[DatabaseServer]:
    """Three of its connections are kept for the administrator."""
    with PostgresServer(max_connections=ROOM + 3) as own:
        yield own


@pytest.fixture(scope="session")
def crowded_mariadb() -> Iterator[DatabaseServer]:
    """It has one more, for the administrator."""
    with MariaDBServer(max_connections=ROOM) as own:
        yield own


@pytest.fixture(params=[(driver, lease) for driver in DRIVERS for lease in LEASES], ids="-".join)
def crowded(request: pytest.FixtureRequest, proxy: Callable[[DatabaseServer], TCPProxy]) -> Iterator[Site]:
    """Every driver with both leases, on a server with little room."""
    driver, lease = request.param
    full: DatabaseServer = request.getfixturevalue(f"crowded_{SERVERS[DRIVERS[driver].dialect]}")
    name = f"crowded_{driver}_{lease}"
    full.create_database(name)
    yield Site(driver, lease, full, proxy(full), name)
    full.drop_database(name)

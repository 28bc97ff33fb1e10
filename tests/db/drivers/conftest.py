"""Driver tests run patched, against real servers, each driver through a proxy that can fail."""

from __future__ import annotations

import pytest

from tests.db.drivers.target import DRIVERS, Target
from tests.db.fixtures import way_to
from tests.db.patched import pytest_pyfunc_call  # noqa: F401 - a hook
from tests.db.servers import DatabaseServer

SERVERS = {"postgres": "postgres", "mysql": "mariadb"}


def _target(request: pytest.FixtureRequest, name: str) -> Target:
    kind = SERVERS[DRIVERS[name].dialect]
    server: DatabaseServer = request.getfixturevalue(kind)
    database: str = request.getfixturevalue(f"{kind}_db")
    return Target(name, server, way_to(server, request), database)


@pytest.fixture(params=list(DRIVERS))
def target(request: pytest.FixtureRequest) -> Target:
    """Every driver that talks with a server."""
    return _target(request, request.param)


@pytest.fixture(params=[name for name in DRIVERS if DRIVERS[name].dialect == "postgres"])
def postgres_target(request: pytest.FixtureRequest) -> Target:
    """Both PostgreSQL drivers."""
    return _target(request, request.param)


@pytest.fixture(params=[name for name in DRIVERS if DRIVERS[name].dialect == "mysql"])
def mysql_target(request: pytest.FixtureRequest) -> Target:
    """Both MySQL drivers."""
    return _target(request, request.param)


@pytest.fixture
def psycopg3(request: pytest.FixtureRequest) -> Target:
    """Only psycopg 3."""
    return _target(request, "psycopg3")


@pytest.fixture
def mysqlclient(request: pytest.FixtureRequest) -> Target:
    """Only mysqlclient."""
    return _target(request, "mysqlclient")


@pytest.fixture
def pymysql(request: pytest.FixtureRequest) -> Target:
    """PyMySQL alone."""
    return _target(request, "pymysql")

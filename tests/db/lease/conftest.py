"""Each driver and lease has a patched interpreter of its own: Django chooses its library when it is imported."""

from __future__ import annotations

import pytest

from tests.db.fixtures import way_to
from tests.db.lease.site import DRIVERS, Site
from tests.db.patched import interpreter
from tests.db.servers import DatabaseServer

SERVERS = {"postgres": "postgres", "mysql": "mariadb"}
LEASES = ("transaction", "request")


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that has a site there instead of here."""
    return run_there(pyfuncitem, pyfuncitem.module.__name__)


def run_there(pyfuncitem: pytest.Function, family: str) -> bool | None:
    """Run it in the interpreter of this family of tests, on the driver and engine of its site."""
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    site = next((value for value in arguments.values() if isinstance(value, Site)), None)
    if site is None:
        return None
    there = interpreter(f"{family} {site.driver} {site.engine}")
    trouble = there.call(pyfuncitem.module.__name__, pyfuncitem.originalname, arguments)
    if trouble:
        pytest.fail(trouble, pytrace=False)
    return True


def _site(request: pytest.FixtureRequest, driver: str, lease: str) -> Site:
    kind = SERVERS[DRIVERS[driver].dialect]
    server: DatabaseServer = request.getfixturevalue(kind)
    database: str = request.getfixturevalue(f"{kind}_db")
    return Site(driver, lease, server, way_to(server, request), database)


@pytest.fixture(params=[(driver, lease) for driver in DRIVERS for lease in LEASES], ids="-".join)
def site(request: pytest.FixtureRequest) -> Site:
    """Every driver with both leases."""
    return _site(request, *request.param)


@pytest.fixture(params=list(DRIVERS))
def leasing(request: pytest.FixtureRequest) -> Site:
    """Every driver with the transaction lease."""
    return _site(request, request.param, "transaction")


@pytest.fixture(params=[name for name in DRIVERS if DRIVERS[name].dialect == "postgres"])
def postgres_site(request: pytest.FixtureRequest) -> Site:
    """Both PostgreSQL drivers with the transaction lease."""
    return _site(request, request.param, "transaction")


@pytest.fixture(params=[name for name in DRIVERS if DRIVERS[name].dialect == "mysql"])
def mysql_site(request: pytest.FixtureRequest) -> Site:
    """Both MySQL drivers with the transaction lease."""
    return _site(request, request.param, "transaction")


@pytest.fixture
def psycopg3_site(request: pytest.FixtureRequest) -> Site:
    """psycopg 3 with the transaction lease."""
    return _site(request, "psycopg3", "transaction")

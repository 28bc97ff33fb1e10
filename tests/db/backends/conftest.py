"""Engines and their wiring run as the lease's tests do."""

from __future__ import annotations

import pytest

from tests.db.lease.conftest import *  # noqa: F403
from tests.db.lease.conftest import _site, pytest_pyfunc_call  # noqa: F401
from tests.db.lease.site import Site
from tests.processes.conftest import make_server, project, scratch, server, template  # noqa: F401

GEVENTPOOL = "django_db_geventpool.backends.postgresql_"


@pytest.fixture(params=["psycopg3", "psycopg2"])
def geventpool_site(request: pytest.FixtureRequest) -> Site:
    """django-db-geventpool's engines."""
    site = _site(request, request.param, "request")
    site.engine = GEVENTPOOL + request.param
    return site


@pytest.fixture
def sqlite_site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """SQLite, in a file."""
    site = _site(request, "psycopg3", "request")
    site.engine = "djworker.db.backends.sqlite3"
    site.database = str(tmp_path_factory.mktemp("sqlite") / "db.sqlite3")
    return site

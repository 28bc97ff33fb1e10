"""What is seen of the pools, as the lease's tests run."""

from __future__ import annotations

from tests.db.backends.conftest import geventpool_site  # noqa: F401
from tests.db.lease.conftest import (  # noqa: F401
    leasing,
    mysql_site,
    postgres_site,
    psycopg3_site,
    pytest_pyfunc_call,
    site,
)
from tests.processes.conftest import make_server, project, scratch, server, template  # noqa: F401

"""Faults of the server, the network and the workers: some run as the lease's tests do, some on a real process tree."""

from __future__ import annotations

from tests.db.lease.conftest import (  # noqa: F401
    leasing,
    mysql_site,
    postgres_site,
    psycopg3_site,
    pytest_pyfunc_call,
    site,
)
from tests.processes.conftest import make_server, project, scratch, server, template  # noqa: F401

"""The pinning contract runs as the lease's tests do."""

from __future__ import annotations

from tests.db.lease.conftest import (  # noqa: F401
    leasing,
    mysql_site,
    postgres_site,
    psycopg3_site,
    pytest_pyfunc_call,
    site,
)

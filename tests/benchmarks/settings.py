"""The test project's settings for all servers alike: no debug, no log but of errors, and a database as the row wants it.

The environment says what differs: BENCH_APPLICATION (what djworker serves), BENCH_CONNECTIONS (`fresh`, `persistent`, `django`
for Django's own pool, `geventpool`, `djworker`), BENCH_POOL_SIZE, BENCH_LEASE and BENCH_MYSQL_DRIVER (`mysqlclient`, `pymysql`).
"""

from __future__ import annotations

import os
from typing import Any

from testproject.settings import *  # noqa: F403 - settings are made this way
from testproject.settings import DATABASES, DJWORKER

DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
WSGI_APPLICATION = os.environ.get("BENCH_APPLICATION", "testproject.wsgi.application")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    # An error makes the sample invalid anyway, and its traceback says why.
    "loggers": {"django": {"handlers": ["stderr"], "level": "ERROR", "propagate": False}},
}


def _connections(kind: str, size: int) -> dict[str, Any]:
    """What the kind of connection handling changes in DATABASES["default"]; `django` and `geventpool` are PostgreSQL's."""
    kinds: dict[str, dict[str, Any]] = {
        "fresh": {},
        "djworker": {},
        "persistent": {"CONN_MAX_AGE": None},
        "django": {"OPTIONS": {"pool": {"min_size": size, "max_size": size, "timeout": 30}}},
        "geventpool": {
            "ENGINE": "django_db_geventpool.backends.postgresql_psycopg3",
            "OPTIONS": {"MAX_CONNS": size, "REUSE_CONNS": size},
        },
    }
    return kinds[kind]


_kind = os.environ.get("BENCH_CONNECTIONS", "fresh")
_size = int(os.environ.get("BENCH_POOL_SIZE", "10"))
DATABASES = {
    "default": {**DATABASES["default"], "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False, **_connections(_kind, _size)}
}
if _kind == "djworker":
    DJWORKER = {**DJWORKER, "POOL": {"MAX_SIZE": _size, "LEASE": os.environ.get("BENCH_LEASE", "transaction")}}

if os.environ.get("BENCH_MYSQL_DRIVER") == "pymysql":
    import pymysql

    pymysql.version_info = (2, 2, 4, "final", 0)  # what Django asks of mysqlclient; PyMySQL reports an older one
    pymysql.install_as_MySQLdb()
    # The server has TLS off, but PyMySQL would load all certificates for each connection first: 45 ms of CPU.
    DATABASES["default"]["OPTIONS"] = {**DATABASES["default"].get("OPTIONS", {}), "ssl_disabled": True}

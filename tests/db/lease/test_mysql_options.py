"""A wiped session of MySQL is what a new one is, whatever the options of the database make of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.db.lease.site import Site, eventually, pool, query, view

#: They differ from moment to moment, or from session to session.
VOLATILE = {
    "timestamp",
    "pseudo_thread_id",
    "rand_seed1",
    "rand_seed2",
    "last_gtid",
    "gtid_seq_no",
    "error_count",
    "warning_count",
}

OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a collation": {"init_command": "SET collation_connection = 'utf8mb4_unicode_ci'"},
    "a character set": {"init_command": "SET NAMES latin1"},
    "both ways": {"init_command": "SET collation_connection = 'utf8mb4_bin'", "collation": "utf8mb4_unicode_ci"},
    "modes": {"init_command": "SET sql_mode = 'ANSI', autocommit = 1", "sql_mode": "STRICT_ALL_TABLES"},
    "modes the other way": {"init_command": "SET sql_mode = 'ANSI', autocommit = 0"},
    "time zone and isolation": {
        "init_command": "SET time_zone = '+05:00', tx_isolation = 'SERIALIZABLE'",
        "isolation_level": "repeatable read",
    },
}


def variables() -> dict[str, str]:
    """The session, as the server sees it."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION VARIABLES")
        return {name: value for name, value in cursor.fetchall() if name not in VOLATILE}


def pinned() -> dict[str, str]:
    """The same; what else is in it is wiped at the end of the request."""
    found = variables()
    query("SET @secret = 1")
    query(
        "SET SESSION wait_timeout = 77, collation_connection = 'utf8mb4_czech_ci', time_zone = '+11:00', sql_mode = ''"
    )
    return found


@pytest.mark.parametrize("options", OPTIONS)
def test_a_wiped_session_is_as_a_new_one(mysql_site: Site, options: str) -> None:
    mysql_site.start(options=OPTIONS[options], max_size=1)
    fresh, session = view(pinned), view(query, mysql_site.session_sql)
    eventually(lambda: pool().stats()["pool_available"] == 1, "it is wiped")
    wiped = view(variables)
    assert view(query, mysql_site.session_sql) == session
    assert {name: (value, wiped[name]) for name, value in fresh.items() if wiped[name] != value} == {}

"""`check --database` asks the servers, and leaves no connection behind."""

from __future__ import annotations

from pathlib import Path

from tests.db.checks.site import Site, ids
from tests.db.servers import DatabaseServer, MariaDBServer, PostgresServer
from tests.processes.events import eventually

# WORKERS = 3 may be four processes during a reload. The servers of the tests take 200 connections.
HEAD = """
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["djworker"]
DJWORKER = {"WORKERS": 3, "POOL": {"max_size": 40}}
"""


def database(server: DatabaseServer, engine: str, name: str, **more: object) -> dict[str, object]:
    """One of DATABASES."""
    known = {"HOST": server.host, "PORT": server.port, "USER": server.user, "PASSWORD": server.password}
    return {"ENGINE": engine, "NAME": name, **known, **more}


def site(folder: Path, **databases: dict[str, object]) -> Site:
    return Site(folder, f"{HEAD}\nDATABASES = {databases!r}")


def asked(site: Site, *aliases: str) -> list[tuple[str, str, str]]:
    return site.check(*(word for alias in aliases for word in ("--database", alias)))


def test_pools_of_one_user_are_added_up(postgres: PostgresServer, postgres_db: str, tmp_path: Path) -> None:
    default = database(postgres, "djworker.db.backends.postgresql", postgres_db)
    other = database(postgres, "django.db.backends.postgresql", postgres_db, OPTIONS={"pool": {"max_size": 10}})
    here = site(tmp_path, default=default, other=other)
    assert asked(here, "default") == []
    [(number, text, _)] = asked(here, "default", "other")
    assert number == "djworker.W108"
    assert "'default', 'other': 3 workers, and one more during a reload, of 50 connections each may want 200" in text
    assert "the server takes 197" in text
    eventually(lambda: postgres.connections(postgres_db) == 0, "no connection is left")


def test_limits_of_users_count(
    postgres: PostgresServer, postgres_db: str, mariadb: MariaDBServer, mariadb_db: str, tmp_path: Path
) -> None:
    postgres.execute("CREATE ROLE few LOGIN PASSWORD 'secret' CONNECTION LIMIT 159")
    mariadb.execute("CREATE USER few@127.0.0.1 IDENTIFIED BY 'secret' WITH MAX_USER_CONNECTIONS 159")
    mariadb.execute(f"GRANT ALL ON {mariadb_db}.* TO few@127.0.0.1")
    try:
        few = database(postgres, "djworker.db.backends.postgresql", postgres_db, USER="few")
        few_too = database(mariadb, "djworker.db.backends.mysql", mariadb_db, USER="few")
        enough = database(mariadb, "djworker.db.backends.mysql", mariadb_db)
        here = site(tmp_path, default={}, few=few, few_too=few_too, enough=enough)
        found = asked(here, "few", "few_too", "enough")
    finally:
        postgres.execute("DROP ROLE few")
        mariadb.execute("DROP USER few@127.0.0.1")
    assert ids(found) == ["W108 few", "W108 few_too"]
    assert all("want 160, and the server takes 159" in text for _, text, _ in found)
    eventually(lambda: mariadb.connections(mariadb_db) == 0, "no connection is left")


def test_a_server_that_cannot_be_asked(postgres: PostgresServer, tmp_path: Path) -> None:
    nowhere = database(postgres, "djworker.db.backends.postgresql", "nowhere")
    stranger = database(postgres, "django.db.backends.postgresql", "postgres", PASSWORD="wrong", USER="stranger")
    found = asked(site(tmp_path, default={}, nowhere=nowhere, stranger=stranger), "nowhere", "stranger")
    assert ids(found) == ["W111 nowhere", "W111 stranger"]
    assert 'database "nowhere" does not exist' in found[0][1]
    assert "password authentication failed" in found[1][1]

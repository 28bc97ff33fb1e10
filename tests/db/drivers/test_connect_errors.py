"""Each reason for which a connection is not made has a true sentence of its own, whatever library says it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import MySQLdb
import psycopg
import psycopg2
import pymysql
import pytest
from django.db import OperationalError

from djworker.db.drivers.connect_errors import explain
from tests.db.fixtures import mariadb, mariadb_db, postgres, postgres_db
from tests.db.servers import MariaDBServer, PostgresServer

__all__ = ["mariadb", "mariadb_db", "postgres", "postgres_db"]

Settings = dict[str, Any]
Connect = Callable[..., Any]
#: What is changed in the entry of DATABASES → what is said. {port} and {name} are the server's.
POSTGRES: dict[str, tuple[Settings, str]] = {
    "password": (
        {"PASSWORD": "wrong"},
        "the server refuses us: the password of user 'app' is wrong, or there is no such user (FATAL: password",
    ),
    "no password": (
        {"PASSWORD": ""},
        "the server refuses us: it wants a password for user 'app', and PASSWORD is empty",
    ),
    "user": ({"USER": "ghost"}, "the server refuses us: the password of user 'ghost' is wrong, or there is no such"),
    "no login": ({"USER": "asleep"}, "the server refuses us: user 'asleep' may not log in"),
    "database": ({"NAME": "ghost"}, "the server refuses us: it has no database 'ghost'"),
    "closed database": ({"NAME": "template1"}, "the server refuses us: user 'app' may not use database 'template1'"),
    "full": ({"USER": "limited"}, "the server refuses us: it has no connection left, in all or for user"),
    "pg_hba": ({"USER": "shut"}, "the server refuses us: it takes no connections from this machine for this user and"),
    "TLS of ours": ({"OPTIONS": {"sslmode": "require"}}, "the server has no TLS, and OPTIONS of DATABASES['default']"),
    "port": ({"PORT": 1}, "no server listens at 127.0.0.1, port 1"),
    "host": ({"HOST": "no.such.host.invalid"}, "the host 'no.such.host.invalid' is unknown"),
    "socket": ({"HOST": "/nonexistent"}, "no server listens on the socket /nonexistent/.s.PGSQL.{port}"),
    "another server": (
        {"PORT": "stranger"},
        "the program that listens at 127.0.0.1, port {stranger} hangs up, or is no database",
    ),
    "options": (
        {"OPTIONS": {"options": "-c x.y=1 -c nosuch=1"}},
        "the server refuses us: it does not know an option of OPTIONS",
    ),
}
MYSQL: dict[str, tuple[Settings, str]] = {
    "password": (
        {"PASSWORD": "wrong"},
        "the server refuses us: the password of user 'app' is wrong, or there is no such user (Access denied for user",
    ),
    "no password": (
        {"PASSWORD": ""},
        "the server refuses us: it wants a password for user 'app', and PASSWORD is empty",
    ),
    "user": ({"USER": "ghost"}, "the server refuses us: the password of user 'ghost' is wrong, or there is no such"),
    "database": ({"NAME": "ghost"}, "the server refuses us: it has no database 'ghost'"),
    "closed database": ({"USER": "poor"}, "the server refuses us: user 'poor' may not use database '{name}'"),
    "full": ({"USER": "limited"}, "the server refuses us: it has no connection left, in all or for user"),
    "locked": ({"USER": "asleep"}, "the server refuses us: the account of user 'asleep' is locked or has expired"),
    "port": ({"PORT": 1}, "no server listens at 127.0.0.1, port 1"),
    "host": ({"HOST": "no.such.host.invalid"}, "the host 'no.such.host.invalid' is unknown"),
    "socket": ({"HOST": "/nonexistent"}, "no server listens on the socket /nonexistent"),
    "another server": (
        {"PORT": "stranger"},
        "the program that listens at 127.0.0.1, port {stranger} hangs up, or is no database",
    ),
}


@pytest.fixture(scope="module")
def stranger() -> Iterator[int]:
    """The port of a server that is no database: it speaks HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _address = listener.accept()
                except OSError:  # the end of the test
                    return
                with client:
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    client.shutdown(socket.SHUT_WR)

        Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def strict_postgres(postgres: PostgresServer) -> PostgresServer:
    """With users of every kind."""
    postgres.execute("CREATE ROLE asleep NOLOGIN PASSWORD 'secret'")
    postgres.execute("CREATE ROLE limited LOGIN PASSWORD 'secret' CONNECTION LIMIT 0")
    postgres.execute("CREATE ROLE shut LOGIN PASSWORD 'secret'")
    postgres.execute("REVOKE CONNECT ON DATABASE template1 FROM PUBLIC")
    return postgres


@pytest.fixture(scope="module")
def strict_mariadb(mariadb: MariaDBServer) -> MariaDBServer:
    """The same."""
    mariadb.execute("CREATE USER poor@'%' IDENTIFIED BY 'secret'")
    mariadb.execute("CREATE USER asleep@'%' IDENTIFIED BY 'secret' ACCOUNT LOCK")
    mariadb.execute("CREATE USER limited@'%' IDENTIFIED BY 'secret' WITH MAX_USER_CONNECTIONS 1")
    return mariadb


def why_not(connect: Connect, entry: Settings, params: Settings) -> str:
    """What is said of it, from the library's error and from Django's around it: both are the same."""
    with pytest.raises((Exception,)) as caught:
        connect(**{name: value for name, value in params.items() if value not in {"", None}})
    wrapped = OperationalError(*caught.value.args)
    wrapped.__cause__ = caught.value
    said = str(explain(caught.value, entry))
    assert str(explain(wrapped, entry)) == said
    assert "\n" not in said
    return said


@pytest.mark.parametrize("connect", [psycopg.connect, psycopg2.connect], ids=["psycopg", "psycopg2"])
@pytest.mark.parametrize("reason", POSTGRES)
def test_each_reason_of_postgresql_has_a_sentence(
    strict_postgres: PostgresServer, stranger: int, reason: str, connect: Connect
) -> None:
    server = strict_postgres
    change, expected = POSTGRES[reason]
    base = {"NAME": "postgres", "USER": server.user, "PASSWORD": server.password, "HOST": server.host}
    entry = {**base, "PORT": server.port, "OPTIONS": {}, **change}
    entry["PORT"] = stranger if entry["PORT"] == "stranger" else entry["PORT"]
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    params = {name: entry[setting] for name, setting in names.items()} | entry["OPTIONS"]
    said = why_not(connect, entry, params)
    assert said.startswith(expected.format(port=server.port, stranger=stranger)), said


#: PyMySQL leaves a socket open that finds nothing at its path.
PAIRS = [
    pytest.param(reason, connect, id=f"{reason}-{connect.__module__.partition('.')[0]}")
    for reason in MYSQL
    for connect in (MySQLdb.connect, pymysql.connect)
    if (reason, connect) != ("socket", pymysql.connect)
]


@pytest.mark.parametrize("reason, connect", PAIRS)
def test_each_reason_of_mysql_has_a_sentence(
    strict_mariadb: MariaDBServer, mariadb_db: str, stranger: int, reason: str, connect: Connect
) -> None:
    server = strict_mariadb
    change, expected = MYSQL[reason]
    base = {"NAME": mariadb_db, "USER": server.user, "PASSWORD": server.password, "HOST": server.host}
    entry = {**base, "PORT": server.port, **change}
    entry["PORT"] = stranger if entry["PORT"] == "stranger" else entry["PORT"]
    names = {"database": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    params: Settings = {name: entry[setting] for name, setting in names.items()}
    if entry["HOST"].startswith("/"):
        params |= {"unix_socket": entry["HOST"], "host": "", "port": ""}
    kept = connect(**{**params, "database": ""}) if reason == "full" else None
    said = why_not(connect, entry, params)
    assert said.startswith(expected.format(port=server.port, stranger=stranger, name=mariadb_db)), said
    if kept is not None:
        kept.close()


#: What no server here can be made to say. The first of these is PostgreSQL's in Russian.
WORDS: dict[str, tuple[Exception, str]] = {
    "another language": (
        psycopg.OperationalError(
            'connection failed: connection to server at "::1", port 5432 failed: ВАЖНО:  пользователь "app" не прошёл'
        ),
        'the server refuses us: пользователь "app" не прошёл',
    ),
    "no line in pg_hba.conf": (
        psycopg.OperationalError('x failed: FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "u", no encryption'),
        "the server refuses us: it takes no connections from this machine for this user and database without TLS",
    ),
    "full": (
        psycopg2.OperationalError("FATAL:  sorry, too many clients already"),
        "the server refuses us: it has no connection left",
    ),
    "starting": (psycopg.OperationalError("FATAL:  the database system is starting up"), "the server is starting"),
    "certificate": (psycopg.OperationalError("SSL error: certificate verify failed"), "TLS with the server fails"),
    "time-out": (psycopg.OperationalError("connection timeout expired"), "the server at db, port 5432 does not answer"),
    "no way": (psycopg.OperationalError("failed: No route to host"), "there is no way to the server at db, port 5432"),
    "TLS of MySQL's": (
        pymysql.err.OperationalError(3159, "Connections using insecure transport are prohibited"),
        "the server refuses us: it wants TLS",
    ),
    "time-out of MySQL's": (
        pymysql.err.OperationalError(2003, "Can't connect to MySQL server on 'db' (timed out)"),
        "the server at db, port 5432 does not answer in time",
    ),
    "host of MySQL's": (
        MySQLdb.OperationalError(1130, "Host 'x' is not allowed"),
        "the server refuses us: it takes no",
    ),
    "a new number": (MySQLdb.OperationalError(1999, "No, thank you"), "the server refuses us (No, thank you)"),
    "nothing known": (
        psycopg.OperationalError("oh dear"),
        "oh dear: correct DATABASES['default'], or start the server",
    ),
}


@pytest.mark.parametrize("name", WORDS)
def test_what_a_server_of_ours_never_says_has_a_sentence(name: str) -> None:
    error, expected = WORDS[name]
    assert str(explain(error, {"HOST": "db", "PORT": 5432, "USER": "u"})).startswith(expected)

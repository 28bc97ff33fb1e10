"""Each package: the project that runs it, what is run, and what its user ought to know. The page of the docs shows this."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

POSTGRES = ("psycopg3", "psycopg2")
MYSQL = ("mysqlclient", "pymysql")
ALL = ("psycopg3", "psycopg2", "mysqlclient", "pymysql")
LIBRARIES = {"psycopg3": "psycopg 3", "psycopg2": "psycopg2", "mysqlclient": "mysqlclient", "pymysql": "PyMySQL"}


@dataclass(frozen=True)
class Package:
    """One of PyPI's.

    project: the folder here that runs it. drivers: on which it is run. run: what is done. know: what its user ought to
    know; empty where it works as with Django's engine.
    """

    name: str
    project: str
    drivers: tuple[str, ...]
    run: str
    know: str = ""

    @property
    def version(self) -> str:
        """Of what is installed; empty if there is no release for this Python or this Django."""
        try:
            return metadata.version(self.name)
        except metadata.PackageNotFoundError:
            return ""


PACKAGES = (
    Package(
        "django-tenants",
        "tenants",
        POSTGRES[:1],
        "requests of three tenants at once, by host name; writes, iterators, errors in transactions",
    ),
    Package(
        "django-pgschemas",
        "pgschemas",
        POSTGRES[:1],
        "requests of three tenants at once, by host name; writes, iterators, errors in transactions",
    ),
    Package("django-read-only", "extras", POSTGRES, "writes are refused while it is on, in every request"),
    Package("django-pghistory", "extras", POSTGRES, "each event has the context of its own request"),
    Package(
        "django-pgtrigger", "extras", POSTGRES, "`ignore()` in autocommit and in transactions, for its request alone"
    ),
    Package(
        "django-pglock",
        "extras",
        POSTGRES,
        "advisory locks across requests, lock time-outs",
        "an advisory lock holds its connection until it is released",
    ),
    Package(
        "django-pgactivity",
        "extras",
        POSTGRES,
        "time-outs, contexts, `pid()` and `cancel()`",
        "after `pid()` the connection is held to the end of the request",
    ),
    Package("django-cachalot", "extras", POSTGRES, "hits, invalidation, rollbacks"),
    Package(
        "procrastinate",
        "extras",
        POSTGRES[:1],
        "jobs deferred in transactions that commit or roll back, run by its worker",
        "its worker is a process of its own and has connections of its own",
    ),
    Package("django-silk", "observers", ALL, "the requests and queries that it has recorded"),
    Package("django-debug-toolbar", "observers", ALL, "the queries that its SQL panel shows"),
    Package(
        "django-prometheus",
        "observers",
        ALL,
        "its middleware, its model counters and its database engines",
    ),
    Package("opentelemetry-instrumentation-django", "observers", ALL, "a span for each request"),
    Package(
        "opentelemetry-instrumentation-psycopg", "observers", ("psycopg3",), "a span for each query, in its request's"
    ),
    Package(
        "opentelemetry-instrumentation-psycopg2", "observers", ("psycopg2",), "a span for each query, in its request's"
    ),
    Package(
        "opentelemetry-instrumentation-mysqlclient",
        "observers",
        ("mysqlclient",),
        "a span for each query, in its request's",
    ),
    Package(
        "opentelemetry-instrumentation-pymysql", "observers", ("pymysql",), "a span for each query, in its request's"
    ),
    Package("sentry-sdk", "observers", ALL, "transactions with a span for each query; errors with their breadcrumbs"),
    Package(
        "celery",
        "queue",
        POSTGRES[:1],
        "tasks of a worker with `--pool gevent`, in transactions, and with a tenant's settings",
        "name the engine in `DATABASES`: `djworker.db.backends.postgresql`",
    ),
)

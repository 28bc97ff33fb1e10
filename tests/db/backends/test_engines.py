"""The table of engines, and the SQLite engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import gevent
import pytest

from tests.db.lease.site import DRIVERS, Site, query, request, view

if TYPE_CHECKING:
    from djworker.db import engines as patch


def databases(**engines: str) -> SimpleNamespace:
    return SimpleNamespace(
        DATABASES={alias: {"ENGINE": engine, "OPTIONS": {}} for alias, engine in engines.items()},
        DJWORKER={"POOL": {"max_size": 7}, "POOLS": {"b": {"lease": "request"}}},
    )


def test_engines_are_mapped_and_the_others_are_left_alone(psycopg3_site: Site) -> None:
    from tests.db.lease.site import configure

    configure(psycopg3_site.driver, "djworker.db.backends.postgresql")
    from djworker.db import engines as patch

    settings = databases(
        a="django.db.backends.postgresql",
        b="django.db.backends.mysql",
        c="django.db.backends.sqlite3",
        d="django.db.backends.oracle",
        e="djworker.db.backends.postgresql",
        f="django_db_geventpool.backends.postgresql_psycopg3",
    )
    written = {alias: dict(database) for alias, database in settings.DATABASES.items()}
    with installed(settings) as given:
        rows = {row.alias: row for row in given}
    assert written == settings.DATABASES
    assert {alias: row.engine.removeprefix("djworker.db.backends.") for alias, row in rows.items()} == {
        "a": "postgresql",
        "b": "mysql",
        "c": "sqlite3",
        "e": "postgresql",
        "f": "django_db_geventpool.backends.postgresql_psycopg3",
    }
    assert (rows["a"].driver, rows["a"].lease, rows["a"].sizes) == ("psycopg", "transaction", "0-7")
    assert (rows["b"].driver, rows["b"].lease) == ("mysqlclient", "request")
    assert rows["c"].lease == ""
    assert "writers take turns" in patch._text(rows["c"])
    assert rows["f"].sizes == "0-4"


@contextmanager
def installed(settings: SimpleNamespace) -> Iterator[list[patch.Row]]:
    """Djangos's way to load an engine is exchanged, as in a mold, and brought back."""
    from django.db import utils

    from djworker.db import engines as patch

    load = utils.load_backend
    try:
        yield patch.install(settings)
    finally:
        utils.load_backend = load


@contextmanager
def engine(name: str, alias: str = "default") -> Iterator[None]:
    """The alias has this one in its settings."""
    from django.db import connections

    before = connections.settings[alias]["ENGINE"]
    connections[alias].close()
    del connections[alias]
    connections.settings[alias]["ENGINE"] = name
    try:
        yield
    finally:
        connections[alias].close()
        del connections[alias]
        connections.settings[alias]["ENGINE"] = before


def stock(site: Site) -> str:
    """Django's engine."""
    return f"django.db.backends.{'postgresql' if site.dialect == 'postgres' else 'mysql'}"


def test_the_name_of_the_engine_stays_what_the_project_has_written(site: Site) -> None:
    site.start(create=False)
    from django.db import connection, connections
    from django.db.utils import ConnectionHandler

    query("SELECT 1")
    with installed(databases(default=stock(site))), engine(stock(site)):
        query("SELECT 1")
        assert type(connections["default"]).__module__ == DRIVERS[site.driver].engine + ".base"
        assert connection.settings_dict["ENGINE"] == stock(site)
        assert connections.settings["default"]["ENGINE"] == connections.databases["default"]["ENGINE"] == stock(site)
        assert connection.vendor == {"postgres": "postgresql", "mysql": "mysql"}[site.dialect]
        for other in (connection.copy(), ConnectionHandler(connections.settings)["default"]):
            assert type(other) is type(connections["default"])
            with other.cursor() as cursor:
                cursor.execute("SELECT 1")
            assert other.lease.conn is None or not site.transaction_lease
            other.close()
        assert site.sessions() <= 3
        connection.close()


def test_a_connection_that_exists_already_is_closed_and_made_anew(site: Site) -> None:
    site.start(create=False)
    from django.db import connections

    with engine(stock(site)):
        early = connections["default"]
        early.ensure_connection()
        assert type(early).__module__.startswith("django.")
        with installed(databases(default=stock(site))):
            assert early.connection is None
            assert type(connections["default"]).__module__.startswith("djworker.")
            query("SELECT 1")
            connections["default"].close()


def test_sqlite_writers_take_turns(sqlite_site: Site) -> None:
    item = sqlite_site.start()

    def work(number: int) -> None:
        from django.db import transaction

        with transaction.atomic():
            item.objects.create(name=str(number))
            gevent.sleep(0.002)
            item.objects.filter(name=str(number)).update(name=f"{number}!")

    gevent.joinall([request(work, number) for number in range(30)], raise_error=True)
    assert view(item.objects.filter(name__endswith="!").count) == 30


@pytest.mark.parametrize(
    "pool,message",
    [
        ({"max_sise": 3}, "did you mean max_size"),
        ({"max_size": 0}, "at least 1"),
        ({"max_size": "many"}, "digits only"),
        ({"lease": "forever"}, "transaction or request"),
        ({"min_size": 20}, "raise max_size"),
        ({"pin_sql": ["("]}, "regular expression"),
        ({"strict": 1}, "neither true nor false"),
        (7, "write {'max_size': 10}"),
    ],
)
def test_wrong_options_name_the_remedy(pool: object, message: str) -> None:
    from djworker.conf.pool_resolve import for_alias
    from djworker.conf.problems import ConfigError

    with pytest.raises(ConfigError, match=message.replace("{", r"\{")):
        for_alias("default", {"POOL": pool}, None)


def test_djangos_own_options_are_understood() -> None:
    from djworker.conf.pool_resolve import for_alias

    assert for_alias("default", {}, True) == for_alias("default", {}, None)
    mine = for_alias(
        "default", {"POOL": {"max_size": 3, "min_size": 1}}, {"max_size": 5, "num_workers": 2, "max_waiting": 9}
    )
    assert (mine.min_size, mine.max_size, mine.max_waiting) == (1, 5, 9)
    assert for_alias("a", {"POOLS": {"a": {"MAX_SIZE": 2}}}, {"max_size": 5}).max_size == 2


def test_every_option_of_psycopg_pool_is_mapped_or_explained() -> None:
    from inspect import signature

    from psycopg_pool import ConnectionPool

    from djworker.conf.pool_resolve import unused
    from djworker.conf.pool_table import POOL_OPTIONS

    names = set(signature(ConnectionPool.__init__).parameters) - {"self"}
    explained = dict(unused(dict.fromkeys(names)))
    assert names == (names & POOL_OPTIONS.keys()) | explained.keys()
    assert not POOL_OPTIONS.keys() & explained.keys()


@pytest.mark.parametrize(
    "pool,sizes",
    [
        ({"min_size": 6}, (6, 6)),
        ({"min_size": 20, "max_size": None}, (20, 20)),
        ({"min_size": 2, "max_size": 8}, (2, 8)),
        ({"max_size": 2}, (0, 2)),
        ({"num_workers": 9}, (0, 10)),
    ],
)
def test_sizes_of_djangos_pool_mean_what_they_mean_there(pool: dict[str, object], sizes: tuple[int, int]) -> None:
    from djworker.conf.pool_resolve import for_alias

    mine = for_alias("default", {}, pool)
    assert (mine.min_size, mine.max_size) == sizes


def test_options_of_psycopg_pool_are_none_of_ours() -> None:
    from djworker.conf.pool_resolve import for_alias
    from djworker.conf.problems import ConfigError

    with pytest.raises(ConfigError, match="unknown key 'reset': a session on which statements have left something"):
        for_alias("default", {"POOL": {"reset": print}}, None)

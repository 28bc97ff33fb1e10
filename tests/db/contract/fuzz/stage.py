"""The two databases, the pool between, and what a stranger sees when all is over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gevent

from tests.db.contract.fuzz import libraries
from tests.db.lease.site import Site, eventually, request

if TYPE_CHECKING:
    from djworker.db.pool.pool import Pool

NEIGHBOURS = 3
#: Seconds. Nobody has to wait so long while all goes well, and a program that hangs shows.
PATIENCE = 6.0
#: Seconds, where the pool was emptied on purpose.
SHORT = 0.02
SEED = [("a", 1), ("c", 2), ("e", 3), ("g", 60)]
TENANTS = ("red", "blue")

#: What a session must look like to somebody who comes new; one row.
STRANGER = {
    "postgres": """
        SELECT (SELECT string_agg(name || '=' || setting, ', ' ORDER BY name) FROM pg_settings WHERE source = 'session'
                 AND name <> 'client_connection_check_interval' AND name NOT LIKE 'transaction%'),
               current_setting('role'), current_user::text, current_setting('search_path'), current_setting('work_mem'),
               nullif(current_setting('app.tenant', true), ''), current_setting('TimeZone'),
               (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
               (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
               (SELECT count(*) FROM pg_listening_channels()),
               (SELECT count(*) FROM pg_prepared_statements WHERE name NOT LIKE '\\_pg3\\_%'),
               (SELECT count(*) FROM pg_cursors WHERE name <> ''),
               current_setting('default_transaction_isolation'), current_setting('default_transaction_read_only')
    """,
    "mysql": """
        SELECT @mine, @@sql_safe_updates, @@sql_mode, @@autocommit, @@time_zone, DATABASE(), @@character_set_client,
               @@collation_connection, @@tx_isolation, @@tx_read_only, @@foreign_key_checks, @@unique_checks,
               IS_USED_LOCK('fuzz_0') <=> CONNECTION_ID(), IS_USED_LOCK('fuzz_1') <=> CONNECTION_ID(),
               IS_USED_LOCK('fuzz_2') <=> CONNECTION_ID(), @@group_concat_max_len, @@in_transaction
    """,
}


def djangos_transaction(alias: str) -> Any:
    """`atomic()`, imported where Django is set up."""
    from django.db import transaction

    return transaction.atomic(using=alias)


class Stage:
    """[patched interpreter] One driver and lease; a pool of some size before the first database, nothing before the other."""

    def __init__(self, site: Site, twin: str, unseen: frozenset[str] = frozenset()) -> None:
        self.site, self.twin, self.unseen = site, twin, unseen
        self.postgres = site.dialect == "postgres"
        self.sessions_ended = self.starved = False
        #: How many programs starve the pool.
        self._starving = 0
        self.models: list[Any] = []
        self._clean: tuple[Any, ...] | None = None
        self._library: dict[str, Any] = {}

    # -- before -----------------------------------------------------------------------------------------------------------

    def open(self, *, options: dict[str, Any] | None = None, **pool: Any) -> None:
        """Point the aliases at their databases: ours and Django's, two for each, and Django's on our database, to look on."""
        from django.db import connections

        self.site.start(options=options, create=False, **{"timeout": PATIENCE, **pool})
        ours = connections.settings["default"]
        stock = ours["ENGINE"].replace("djworker.", "django.")
        connections.settings["stock"] = {**ours, "ENGINE": stock, "NAME": self.twin, "OPTIONS": dict(ours["OPTIONS"])}
        connections.settings["stock_other"] = dict(connections.settings["stock"])
        connections.settings["looker"] = {**ours, "ENGINE": stock, "OPTIONS": {}}
        # Who holds a connection of the first alias never waits for one of the second.
        connections.settings["other"]["OPTIONS"]["pool"] = {"max_size": NEIGHBOURS}
        for alias in ("stock", "stock_other", "looker"):
            connections[alias].close()
            del connections[alias]
        if not self.models:
            self.models = [self._model(number) for number in range(NEIGHBOURS)]
            for alias in ("stock", "looker"):
                self._build(alias)
        self._clean, self._library = None, {}
        self._look()

    def _model(self, number: int) -> Any:
        from django.apps import apps
        from django.db import models

        name = f"Row{number}"
        if known := apps.all_models["lease"].get(name.lower()):
            return known
        meta = type("Meta", (), {"app_label": "lease"})
        fields = {"name": models.CharField(max_length=50, unique=True), "number": models.IntegerField(default=0)}
        return type(name, (models.Model,), {"__module__": __name__, "Meta": meta, **fields})

    def _build(self, alias: str) -> None:
        from django.db import connections

        connection = connections[alias]
        with connection.schema_editor() as editor:
            for model in self.models:
                editor.create_model(model)
        with connection.cursor() as cursor:
            for statement in self._schema(str(connection.settings_dict["NAME"])):
                cursor.execute(statement)
        connection.close()

    def _schema(self, database: str) -> Iterator[str]:
        if self.postgres:
            yield "CREATE FUNCTION fuzz_add(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT a + b'"
            yield "CREATE TABLE fuzz_big AS SELECT i, repeat('x', 100) AS filler FROM generate_series(1, 200) i"
            for number in range(NEIGHBOURS):
                for schema in ("public", *TENANTS):
                    if not number and schema != "public":
                        yield f"CREATE SCHEMA {schema}"
                    yield f"CREATE TABLE {schema}.note_{number} (schema text DEFAULT '{schema}', note text)"
            yield "GRANT USAGE ON SCHEMA red TO fuzz_role"
            return
        yield "CREATE PROCEDURE fuzz_two() BEGIN SELECT 1; SELECT 2, 3; END"
        yield "CREATE PROCEDURE fuzz_add(IN a INT, IN b INT) SELECT a + b"
        for number in range(NEIGHBOURS):
            yield f"CREATE TABLE note_{number} (place text, note text)"
            for tenant in TENANTS:
                yield f"CREATE TABLE {database}_{tenant}.note_{number} (place text, note text)"

    # -- each round ---------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """The same rows in both, and numbers that begin at one again."""
        from django.db import connections

        self.sessions_ended = self.starved = False
        for alias in ("looker", "stock"):
            connection = connections[alias]
            with connection.cursor() as cursor:
                for statement in self._fresh(str(connection.settings_dict["NAME"])):
                    cursor.execute(statement)
            for model in self.models:
                model.objects.using(alias).bulk_create([model(name=name, number=number) for name, number in SEED])
            connection.close()

    def _fresh(self, database: str) -> Iterator[str]:
        tables = [model._meta.db_table for model in self.models]
        if self.postgres:
            notes = [f"{schema}.note_{number}" for schema in ("public", *TENANTS) for number in range(NEIGHBOURS)]
            yield f"TRUNCATE {', '.join([*tables, *notes])} RESTART IDENTITY"
            return
        for table in tables:
            yield f"DELETE FROM {table}"
            yield f"ALTER TABLE {table} AUTO_INCREMENT = 1"
        for number in range(NEIGHBOURS):
            for place in ("", *(f"{database}_{tenant}." for tenant in TENANTS)):
                yield f"DELETE FROM {place}note_{number}"

    def contents(self, alias: str) -> dict[str, Any]:
        """All rows of all tables."""
        from django.db import connections

        connection = connections[alias]
        database = str(connection.settings_dict["NAME"])
        places = (
            ("public.", "red.", "blue.") if self.postgres else ("", *(f"{database}_{tenant}." for tenant in TENANTS))
        )
        found: dict[str, Any] = {}
        with connection.cursor() as cursor:
            for model in self.models:
                cursor.execute(f"SELECT name, number FROM {model._meta.db_table} ORDER BY name")
                found[model._meta.db_table] = cursor.fetchall()
            for number in range(NEIGHBOURS):
                for place in places:
                    cursor.execute(f"SELECT * FROM {place}note_{number} ORDER BY 1, 2")
                    found[f"{place}note_{number}".replace(database, "")] = cursor.fetchall()
        connection.close()
        return found

    # -- after ------------------------------------------------------------------------------------------------------------

    def returned(self) -> list[str]:
        """Wait until the pool has all its connections back, wiped; what is wrong if it has not."""
        try:
            eventually(self._at_rest, "all connections are back")
        except Exception as error:  # noqa: BLE001 - it is the finding
            return [f"a connection was not given back: {error}"]
        return []

    def left_behind(self) -> list[str]:
        """What differs in the tables, what a stranger sees in the sessions, and what the library remembers."""
        ours, stock = self.contents("looker"), self.contents("stock")
        wrong = [
            f"table {name}: ours {ours[name]!r}, Django's {stock[name]!r}" for name in ours if ours[name] != stock[name]
        ]
        return wrong + self._look()

    @property
    def pool(self) -> Pool[Any]:
        """Ours."""
        from django.db import connections

        pool: Pool[Any] = connections["default"].leased_pool.pool  # type: ignore[attr-defined]
        return pool

    def _at_rest(self) -> bool:
        numbers = self.pool.stats()
        return numbers["pool_size"] == numbers["pool_available"] and not numbers["requests_waiting"]

    def _look(self) -> list[str]:
        """Be a stranger on each connection of the pool, all at once."""
        number = max(1, int(self.pool.stats()["pool_size"]))
        wrong: list[str] = []
        inside: list[int] = []

        def look() -> None:
            from django.db import connections

            connection: Any = connections["default"]
            with connection.cursor() as cursor, djangos_transaction("default"):
                cursor.execute(STRANGER[self.site.dialect])
                row = tuple(cursor.fetchone())
                inside.append(1)
                eventually(lambda: len(inside) == number, "every connection is looked at")
                wrong.extend(self._compared(row, libraries.state_of(connection.lease.held())))

        gevent.joinall([request(look) for _ in range(number)], raise_error=True)
        return wrong

    def _compared(self, row: tuple[Any, ...], state: dict[str, Any]) -> Iterator[str]:
        state = {name: value for name, value in state.items() if name not in self.unseen}
        if self._clean is None:
            self._clean, self._library = row, state
        if row != self._clean:
            yield f"a stranger sees {row!r} instead of {self._clean!r}"
        yield from (f"in the library's connection, {change}" for change in libraries.changes(self._library, state))

    def renew(self) -> None:
        """After a fault nothing of the old connections is used again."""
        self.pool.drain(5.0)

    # -- faults -----------------------------------------------------------------------------------------------------------

    @contextmanager
    def borrowed_all(self) -> Iterator[list[Any]]:
        """All connections that come free at once."""
        from djworker.db.errors import PoolTimeout, ServerUnavailable

        pool, borrowed = self.pool, []
        try:
            while len(borrowed) < pool.limits.max_size:
                try:
                    borrowed.append(pool.acquire(timeout=SHORT))
                except (PoolTimeout, ServerUnavailable):
                    break
            yield borrowed
        finally:
            for conn in borrowed:
                pool.release(conn)

    @contextmanager
    def short_patience(self) -> Iterator[None]:
        """Whoever has to wait for a connection now is refused."""
        state = self.pool._state
        state.limits = replace(state.limits, timeout=SHORT)
        self.starved = True  # to the end of the round: others may wait still
        self._starving += 1
        try:
            yield
        finally:
            self._starving -= 1
            if not self._starving:  # else a neighbour has borrowed all, and waits for one itself
                state.limits = replace(state.limits, timeout=PATIENCE)

    def end_sessions(self, conns: list[Any]) -> None:
        """Have the server end them, and wait until it has."""
        from django.db import connections

        driver = connections["default"].leased_pool.driver  # type: ignore[attr-defined]
        wanted = {driver.backend_id(conn) for conn in conns if not driver.is_broken(conn)}
        for number in wanted:
            self._end(number)
        deadline = time.monotonic() + 10
        while wanted & {number for number, _, _ in self.site.server.activity(self.site.database)}:
            assert time.monotonic() < deadline, "the server keeps a session that it was told to end"
            gevent.sleep(0.002)
        self.sessions_ended = True

    def _end(self, number: int) -> None:
        if self.postgres:
            self.site.server.execute("SELECT pg_terminate_backend(%s)", (number,))
            return
        import pymysql

        try:
            self.site.server.execute(f"KILL {number}")
        except pymysql.err.OperationalError as gone:
            if gone.args[0] != 1094:  # "unknown thread id"
                raise

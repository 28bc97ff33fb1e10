"""What the how-to pages show is run as it stands there."""

from __future__ import annotations

from typing import Any

import gevent

from tests.db.lease.site import Site, at_rest, eventually, held, query, view
from tests.docs.blocks import Block, find, runs

TENANTS = ("red", "blue")


def make_tenants() -> None:
    query("CREATE TABLE note (tenant text, body text)")
    for tenant in TENANTS:
        query(f"CREATE SCHEMA {tenant}")
        query(f"CREATE TABLE {tenant}.colour AS SELECT '{tenant}'::text AS name")
        query("INSERT INTO note VALUES (%s, %s)", [tenant, f"{tenant}'s"])
    query("ALTER TABLE note ENABLE ROW LEVEL SECURITY")
    query("ALTER TABLE note FORCE ROW LEVEL SECURITY")
    query(find("howto/multi-tenant.md", "CREATE POLICY").text)


def page(_request: object) -> tuple[Any, ...]:
    """A view that asks, waits and asks again."""
    before = query("SELECT name FROM colour")
    gevent.sleep(0.002)
    assert not held()
    return before + query("SELECT string_agg(body, ',') FROM note")


@runs("howto/multi-tenant.md", "class TenantMiddleware", "CREATE POLICY")
def test_the_middleware_for_tenants(postgres_site: Site, blocks: tuple[Block, ...]) -> None:
    postgres_site.start(max_size=2)
    view(make_tenants)
    from django.conf import settings
    from django.test import RequestFactory

    settings.ALLOWED_HOSTS = [".testserver"]
    names: dict[str, Any] = {"schema_of": lambda host: host.removesuffix(".testserver")}
    exec(blocks[0].text, names)
    middleware = names["TenantMiddleware"](page)

    def visit(tenant: str) -> tuple[str, Any]:
        return tenant, view(middleware, RequestFactory().get("/", headers={"host": f"{tenant}.testserver"}))

    visits = [gevent.spawn(visit, tenant) for _ in range(20) for tenant in TENANTS]
    gevent.joinall(visits, raise_error=True)
    assert {visit.value for visit in visits} == {(tenant, (tenant, f"{tenant}'s")) for tenant in TENANTS}
    assert view(query, "SELECT count(*) FROM note") == (0,)
    assert view(query, "SELECT current_setting('search_path')") == ('"$user", public',)
    eventually(lambda: at_rest() and postgres_site.sessions() == 2, "two sessions were enough for all")


@runs("howto/multi-tenant.md", "def enter(tenant)")
def test_a_tenant_that_is_known_only_in_the_view(postgres_site: Site, blocks: tuple[Block, ...]) -> None:
    postgres_site.start(max_size=1)
    view(make_tenants)
    from django.db import connection

    names: dict[str, Any] = {"connection": connection}
    exec(blocks[0].text, names)

    def visit(tenant: str) -> Any:
        names["enter"](tenant)
        gevent.sleep(0.002)
        return query("SELECT string_agg(body, ',') FROM note")

    assert [view(visit, tenant) for tenant in TENANTS] == [(f"{tenant}'s",) for tenant in TENANTS]


@runs("explanation/connections.md", "with sticky():")
def test_a_block_that_is_sticky_keeps_a_temporary_table(postgres_site: Site, blocks: tuple[Block, ...]) -> None:
    postgres_site.start(max_size=1)
    from django.db import connection

    def page(_request: object) -> object:
        query("SET client_min_messages = error")
        query(
            "CREATE FUNCTION load_prices() RETURNS void LANGUAGE plpgsql AS"
            " $$ BEGIN CREATE TEMPORARY TABLE prices_loaded AS SELECT 7 AS price; END $$"
        )
        with connection.cursor() as cursor:
            exec(blocks[0].text, {"cursor": cursor})
            return cursor.fetchall()

    assert view(page, None) == [(7,)]
    assert view(query, "SELECT to_regclass('prices_loaded')") == (None,)


@runs("howto/psycopg.md", "FROM pg_stat_activity")
def test_the_server_can_be_asked_for_its_sessions(postgres_site: Site, blocks: tuple[Block, ...]) -> None:
    postgres_site.start(max_size=1)
    assert view(query, blocks[0].text.replace("'shop'", "current_user").rstrip(";\n")) is not None


@runs("howto/deploy-safely.md", "lock_timeout")
def test_a_migration_can_be_given_a_limit(postgres_site: Site, blocks: tuple[Block, ...]) -> None:
    postgres_site.start(max_size=1)

    def page(_request: object) -> object:
        query(blocks[0].text)
        return query("SHOW lock_timeout")

    assert view(page, None) == ("2s",)

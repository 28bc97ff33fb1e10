"""What the how-to pages show is run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gevent

from tests.db.lease.site import Site, at_rest, eventually, held, query, view

PAGE = Path(__file__).resolve().parents[3] / "docs" / "howto" / "multi-tenant.md"
TENANTS = ("red", "blue")


def block(language: str, number: int = 0) -> str:
    """The first block of this language on the page, or a later one."""
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return found[number]


def make_tenants() -> None:
    query("CREATE TABLE note (tenant text, body text)")
    for tenant in TENANTS:
        query(f"CREATE SCHEMA {tenant}")
        query(f"CREATE TABLE {tenant}.colour AS SELECT '{tenant}'::text AS name")
        query("INSERT INTO note VALUES (%s, %s)", [tenant, f"{tenant}'s"])
    query("ALTER TABLE note ENABLE ROW LEVEL SECURITY")
    query("ALTER TABLE note FORCE ROW LEVEL SECURITY")
    query(block("sql"))


def page(_request: object) -> tuple[Any, ...]:
    """A view that asks, waits and asks again."""
    before = query("SELECT name FROM colour")
    gevent.sleep(0.002)
    assert not held()
    return before + query("SELECT string_agg(body, ',') FROM note")


def test_the_middleware_for_tenants(postgres_site: Site) -> None:
    postgres_site.start(max_size=2)
    view(make_tenants)
    from django.conf import settings
    from django.test import RequestFactory

    settings.ALLOWED_HOSTS = [".testserver"]
    names: dict[str, Any] = {"schema_of": lambda host: host.removesuffix(".testserver")}
    exec(block("python"), names)
    middleware = names["TenantMiddleware"](page)

    def visit(tenant: str) -> tuple[str, Any]:
        return tenant, view(middleware, RequestFactory().get("/", headers={"host": f"{tenant}.testserver"}))

    visits = [gevent.spawn(visit, tenant) for _ in range(20) for tenant in TENANTS]
    gevent.joinall(visits, raise_error=True)
    assert {visit.value for visit in visits} == {(tenant, (tenant, f"{tenant}'s")) for tenant in TENANTS}
    assert view(query, "SELECT count(*) FROM note") == (0,)
    assert view(query, "SELECT current_setting('search_path')") == ('"$user", public',)
    eventually(lambda: at_rest() and postgres_site.sessions() == 2, "two sessions were enough for all")


def test_a_tenant_that_is_known_only_in_the_view(postgres_site: Site) -> None:
    postgres_site.start(max_size=1)
    view(make_tenants)
    from django.db import connection

    names: dict[str, Any] = {"connection": connection}
    exec(block("python", 1), names)

    def visit(tenant: str) -> Any:
        names["enter"](tenant)
        gevent.sleep(0.002)
        return query("SELECT string_agg(body, ',') FROM note")

    assert [view(visit, tenant) for tenant in TENANTS] == [(f"{tenant}'s",) for tenant in TENANTS]

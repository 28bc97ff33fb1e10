"""Users of three tenants at once."""

from __future__ import annotations

import time
from typing import Any

from django.db import connection
from django_tenants.utils import get_tenant_model, schema_context, tenant_context

from tests.db.ecosystem.side import Running, fetch
from tests.db.ecosystem.tenants.notes.models import Note
from tests.db.ecosystem.tenants.settings import TENANTS


def at_once(path: str) -> list[str]:
    """The same page of all tenants at the same time."""
    running = [Running(fetch, path, f"{tenant}.testserver") for tenant in TENANTS]
    return [greenlet.get() for greenlet in running]


def each_tenant_has_its_own(number: int) -> Any:
    """One tenant for each visit, so that nobody else writes there meanwhile."""
    tenant = (*TENANTS, "red")[number]
    return (
        [fetch("/careless/", f"{tenant}.testserver") for _ in range(5)]
        if number < 3
        else fetch("/", "nowhere.testserver")
    )


def written(number: int) -> Any:
    tenant = TENANTS[number % 3]
    return fetch(f"/write/{number}/", f"{tenant}.testserver") if number < 3 else None


def all_at_once(number: int) -> Any:
    return at_once("/careless/")


def in_a_schema(number: int) -> Any:
    found = []
    for tenant in TENANTS:
        with schema_context(tenant):
            time.sleep(0.001)
            found.append(Note.objects.filter(text__endswith="again").count())
    with tenant_context(get_tenant_model().objects.get(schema_name="blue")):
        found.append(connection.schema_name)
        found.append(list(Note.objects.filter(text__contains="for").values_list("text", flat=True)))
    return found


VISITS = {"django-tenants": (each_tenant_has_its_own, written, all_at_once, in_a_schema)}

"""Users of three tenants at once."""

from __future__ import annotations

import time
from typing import Any

from django_pgschemas.utils import get_tenant_model

from tests.db.ecosystem.side import Running, fetch
from tests.db.ecosystem.tenants.notes.models import Note
from tests.db.ecosystem.tenants.settings import TENANTS


def written(number: int) -> Any:
    return fetch(f"/write/{number}/", f"{TENANTS[number]}.testserver") if number < 3 else None


def all_at_once(number: int) -> Any:
    running = [Running(fetch, "/careless/", f"{tenant}.testserver") for tenant in TENANTS]
    return [greenlet.get() for greenlet in running]


def with_a_tenant(number: int) -> Any:
    found = []
    for tenant in get_tenant_model().objects.order_by("schema_name"):
        with tenant:
            time.sleep(0.001)
            found.append([tenant.schema_name, list(Note.objects.order_by("text").values_list("text", flat=True))])
    return found


VISITS = {"django-pgschemas": (written, all_at_once, with_a_tenant)}

"""As django-tenants' documentation says."""

from __future__ import annotations

from typing import Any

APP = "tests.db.ecosystem.tenants"
TENANTS = ("red", "green", "blue")


def settings(database: dict[str, Any], dialect: str, *, ours: bool) -> dict[str, Any]:
    """The project's."""
    return {
        "DATABASES": {"default": {"ENGINE": "django_tenants.postgresql_backend", **database}},
        "DATABASE_ROUTERS": ["django_tenants.routers.TenantSyncRouter"],
        "SHARED_APPS": ["django_tenants", APP, "django.contrib.contenttypes"],
        "TENANT_APPS": ["django.contrib.contenttypes", f"{APP}.notes"],
        "INSTALLED_APPS": ["django_tenants", APP, "django.contrib.contenttypes", f"{APP}.notes"],
        "TENANT_MODEL": "tenants.Client",
        "TENANT_DOMAIN_MODEL": "tenants.Domain",
        "MIDDLEWARE": ["django_tenants.middleware.main.TenantMainMiddleware"],
        "ROOT_URLCONF": "tests.db.ecosystem.tenants.notes.urls",
    }


def prepare() -> None:
    """The public schema and the tenants', with their hosts."""
    from django.core.management import call_command

    from tests.db.ecosystem.tenants.models import Client, Domain

    call_command("migrate_schemas", "--shared", verbosity=0)
    for name in ("public", *TENANTS):
        tenant = Client(schema_name=name, name=name)
        tenant.save(verbosity=0)
        Domain.objects.create(domain=f"{name}.testserver", tenant=tenant, is_primary=True)

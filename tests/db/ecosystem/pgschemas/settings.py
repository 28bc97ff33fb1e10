"""As django-pgschemas' documentation says."""

from __future__ import annotations

from typing import Any

APP = "tests.db.ecosystem.pgschemas"
NOTES = "tests.db.ecosystem.tenants.notes"
TENANTS = ("red", "green", "blue")


def settings(database: dict[str, Any], dialect: str, *, ours: bool) -> dict[str, Any]:
    """The project's."""
    return {
        "DATABASES": {"default": {"ENGINE": "django_pgschemas.postgresql", **database}},
        "DATABASE_ROUTERS": ["django_pgschemas.routers.TenantAppsRouter"],
        "INSTALLED_APPS": ["django_pgschemas", APP, "django.contrib.contenttypes", NOTES],
        "TENANTS": {
            "public": {"APPS": ["django_pgschemas", "django.contrib.contenttypes", APP]},
            "default": {
                "TENANT_MODEL": "pgschemas.Client",
                "DOMAIN_MODEL": "pgschemas.Domain",
                "APPS": [NOTES],
                "URLCONF": f"{NOTES}.urls",
            },
        },
        "MIDDLEWARE": ["django_pgschemas.routing.middleware.DomainRoutingMiddleware"],
        "ROOT_URLCONF": f"{NOTES}.urls",
    }


def prepare() -> None:
    """The public schema and the tenants', with their hosts."""
    from django.core.management import call_command

    from tests.db.ecosystem.pgschemas.models import Client, Domain

    call_command("migrateschema", schemas=["public"], verbosity=0)
    for name in TENANTS:
        tenant = Client(schema_name=name, name=name)
        tenant.save(verbosity=0)
        Domain.objects.create(domain=f"{name}.testserver", tenant=tenant, is_primary=True)

"""As the packages' documentation says."""

from __future__ import annotations

from typing import Any

from tests.db.ecosystem.side import installed

APP = "tests.db.ecosystem.extras"


def settings(database: dict[str, Any], dialect: str, *, ours: bool) -> dict[str, Any]:
    """The project's."""
    return {
        "DATABASES": {"default": {"ENGINE": "django.db.backends.postgresql", **database}},
        "INSTALLED_APPS": [
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "pgtrigger",
            "pghistory",
            "pgactivity",
            "pglock",
            "django_read_only",
            "cachalot",
            *(["procrastinate.contrib.django"] if installed("psycopg") else []),
            APP,
        ],
        "MIDDLEWARE": ["pghistory.middleware.HistoryMiddleware"],
        "ROOT_URLCONF": f"{APP}.urls",
        "CACHES": {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
        "CACHALOT_ONLY_CACHABLE_TABLES": frozenset({"extras_shelf"}),
        "PROCRASTINATE_IMPORT_PATHS": [f"{APP}.tasks"],
    }


def prepare() -> None:
    """Tables and triggers."""
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)
    call_command("pgtrigger", "install", verbosity=0)

"""As the packages' documentation says."""

from __future__ import annotations

from typing import Any

APP = "tests.db.ecosystem.observers"


def settings(database: dict[str, Any], dialect: str, *, ours: bool) -> dict[str, Any]:
    """The project's."""
    engine = {"postgres": "postgresql", "mysql": "mysql"}[dialect]
    return {
        "DATABASES": {"default": {"ENGINE": f"django_prometheus.db.backends.{engine}", **database}},
        "DEBUG": True,
        "INTERNAL_IPS": ["127.0.0.1"],
        "STATIC_URL": "static/",
        "INSTALLED_APPS": [
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
            "django.contrib.staticfiles",
            "debug_toolbar",
            "silk",
            "django_prometheus",
            APP,
        ],
        "MIDDLEWARE": [
            "django_prometheus.middleware.PrometheusBeforeMiddleware",
            "debug_toolbar.middleware.DebugToolbarMiddleware",
            "silk.middleware.SilkyMiddleware",
            "django_prometheus.middleware.PrometheusAfterMiddleware",
        ],
        "TEMPLATES": [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
        "DEBUG_TOOLBAR_PANELS": ["debug_toolbar.panels.sql.SQLPanel"],
        "DEBUG_TOOLBAR_CONFIG": {"RESULTS_CACHE_SIZE": 500},
        "SILKY_MAX_RECORDED_REQUESTS": 10**6,
        "ROOT_URLCONF": f"{APP}.urls",
    }


def prepare() -> None:
    """Tables, without their history: MySQL takes a second for it."""
    from django.conf import settings
    from django.core.management import call_command

    settings.MIGRATION_MODULES = dict.fromkeys(("silk", "auth", "contenttypes", "sessions", "debug_toolbar"))
    call_command("migrate", run_syncdb=True, verbosity=0)

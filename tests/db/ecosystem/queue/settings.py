"""As Celery's documentation says. The engine is named in DATABASES, for no worker of ours maps it."""

from __future__ import annotations

from typing import Any

APP = "tests.db.ecosystem.queue"


def settings(database: dict[str, Any], dialect: str, *, ours: bool) -> dict[str, Any]:
    """The project's."""
    engine = f"{'djworker' if ours else 'django'}.db.backends.postgresql"
    return {"DATABASES": {"default": {"ENGINE": engine, **database}}, "INSTALLED_APPS": [APP], "CACHES": {}}


def prepare() -> None:
    """The tables."""
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)

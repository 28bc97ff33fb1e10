"""The Django application: it brings the command and the checks."""

from __future__ import annotations

import sys

from django.apps import AppConfig

if sys.argv[1:2] == ["runworkers"]:
    from djworker.management import refusal

    refusal.tell_of_applications(sys.argv)


class DjworkerConfig(AppConfig):
    """Put ``"djworker"`` into INSTALLED_APPS."""

    name = "djworker"
    verbose_name = "djworker"

    def ready(self) -> None:
        """Register the checks."""
        from djworker import checks  # noqa: F401, PLC0415 - registers itself; must wait for the settings
        from djworker.db.checks import checks as database_checks  # noqa: F401, PLC0415 - once the apps are there; it registers

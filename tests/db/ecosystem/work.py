"""Run procrastinate's worker until its queue is empty, as `manage.py procrastinate worker --one-shot` does."""

from __future__ import annotations

import json
import os


def main() -> None:
    """In a process that nothing has patched, on Django's engine."""
    from django.conf import settings

    from tests.db.ecosystem.extras import settings as project
    from tests.db.ecosystem.side import COMMON

    spec = json.loads(os.environ["ECOSYSTEM"])
    settings.configure(**COMMON, **project.settings(spec["database"], "postgres", ours=False))
    import django
    from django.core.management import call_command

    django.setup()
    call_command("procrastinate", "worker", "--one-shot")


if __name__ == "__main__":
    main()

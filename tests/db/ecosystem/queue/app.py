"""The Celery application: `celery -A tests.db.ecosystem.queue.app worker --pool gevent`."""

from __future__ import annotations

import json
import os
from pathlib import Path

from celery import Celery
from django.conf import settings

from tests.db.ecosystem.queue import settings as project
from tests.db.ecosystem.side import COMMON, POOL

if not settings.configured:
    import django

    _spec = json.loads(os.environ["ECOSYSTEM"])
    _lease = os.environ["ECOSYSTEM_LEASE"]
    settings.configure(
        **COMMON,
        **project.settings(_spec["database"], "postgres", ours=bool(_lease)),
        DJWORKER={"POOL": {**POOL, "lease": _lease}} if _lease else {},
    )
    django.setup()

folder = os.environ.get("ECOSYSTEM_QUEUE", "")
for _name in ("queue", "control") if folder else ():
    Path(folder, _name).mkdir(exist_ok=True)
app = Celery("ecosystem", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/queue",
    "data_folder_out": f"{folder}/queue",
    "control_folder": f"{folder}/control",
    "polling_interval": 0.02,
}
app.conf.imports = ["tests.db.ecosystem.queue.tasks"]
app.conf.task_ignore_result = True

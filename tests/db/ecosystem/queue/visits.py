"""A real worker with `--pool gevent`; the results are what its tasks have written."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from django.conf import settings

from tests.db.ecosystem.queue.models import Result
from tests.db.ecosystem.side import alone

TASKS = 24
#: Seconds, for the worker to start and to run all tasks.
LIMIT = 60


def send(folder: str) -> None:
    """By the project's own processes, as `task.delay()` does."""
    from tests.db.ecosystem.queue.tasks import paid, tenant

    for number in range(TASKS):
        paid.delay(number)
        tenant.delay(number)


@alone
def tasks(number: int) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ECOSYSTEM_QUEUE"] = folder
        os.environ["ECOSYSTEM_LEASE"] = settings.DJWORKER.get("POOL", {}).get("lease", "")
        send(folder)
        options = ["worker", "--pool", "gevent", "--concurrency", "20", "--without-gossip", "--without-mingle"]
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tests.db.ecosystem.queue.app",
            *options,
            "--loglevel",
            "ERROR",
        ]
        worker = subprocess.Popen(command)
        try:
            end = time.monotonic() + LIMIT
            while Result.objects.count() < TASKS + TASKS * 2 // 3 and time.monotonic() < end:
                time.sleep(0.05)
        finally:
            worker.terminate()
            worker.wait()
    return [list(row) for row in Result.objects.order_by("task", "number").values_list("task", "number", "value")]


VISITS = {"celery": (tasks,)}

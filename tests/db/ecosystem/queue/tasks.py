"""Tasks that run beside each other, twenty at a time."""

from __future__ import annotations

import time

from django.db import Error, connection, transaction

from tests.db.ecosystem.queue.app import app
from tests.db.ecosystem.queue.models import Result


@app.task
def paid(number: int) -> None:
    """In a transaction, which fails for every third."""
    with transaction.atomic():
        Result.objects.create(task="paid", number=number, value="begun")
        time.sleep(0.005)
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SELECT nonsense")
        except Error:
            pass
        Result.objects.filter(task="paid", number=number).update(value="paid")
        if number % 3 == 0:
            raise ValueError("wanted")


@app.task
def tenant(number: int) -> None:
    """A setting of its own, which must be there afterwards and nowhere else."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('app.tenant', true)")
        before = cursor.fetchone()[0] or "nobody"
        cursor.execute("SELECT set_config('app.tenant', %s, false)", [f"tenant {number}"])
    time.sleep(0.005)
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('app.tenant')")
        Result.objects.create(task="tenant", number=number, value=f"{before}, then {cursor.fetchone()[0]}")

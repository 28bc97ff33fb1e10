"""A task for procrastinate's worker."""

from __future__ import annotations

from procrastinate.contrib.django import app

from tests.db.ecosystem.extras.models import Shelf


@app.task(name="put_on_shelf")
def put_on_shelf(name: str) -> None:
    Shelf.objects.create(name=name)

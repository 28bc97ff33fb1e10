"""Views as a tenant's user sees them. Nothing in them names a schema."""

from __future__ import annotations

import time

from django.db import Error, connection, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.db.ecosystem.tenants.notes.models import Note


def texts() -> str:
    return ",".join(Note.objects.order_by("text").values_list("text", flat=True))


def write(request: HttpRequest, text: str) -> HttpResponse:
    Note.objects.create(text=f"{text} for {request.get_host()}")
    time.sleep(0.002)
    with transaction.atomic():
        Note.objects.create(text=f"{text} again")
        time.sleep(0.002)
    return HttpResponse(texts())


def careless(request: HttpRequest) -> HttpResponse:
    """Errors of the database are caught and forgotten."""
    for sql in ("SELECT nonsense", "SELECT 1"):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(sql)
        except Error:
            pass
        time.sleep(0.001)
    found = [note.text for note in Note.objects.order_by("text").iterator(chunk_size=1)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        return HttpResponse(f"{cursor.fetchone()[0]}: {','.join(found)}")


urlpatterns = [path("write/<str:text>/", write), path("careless/", careless)]

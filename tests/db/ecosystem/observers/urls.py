"""Pages that query."""

from __future__ import annotations

import time

from django.db import Error, connection, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from tests.db.ecosystem.observers.models import Book


def shelf(request: HttpRequest, number: int) -> HttpResponse:
    """Five queries of its own, in autocommit and in a transaction."""
    Book.objects.create(title=f"book {number}")
    time.sleep(0.002)
    with transaction.atomic():
        Book.objects.filter(title=f"book {number}").update(title=f"read {number}")
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SELECT nonsense")
        except Error:
            pass
    titles = list(Book.objects.filter(title__endswith=f" {number}").values_list("title", flat=True))
    return HttpResponse(f"<html><body>{', '.join(titles)}</body></html>")


def broken(request: HttpRequest, number: int) -> HttpResponse:
    """An error that is found by whoever watches."""
    Book.objects.filter(title=f"read {number}").count()
    raise RuntimeError(f"broken {number}")


urlpatterns = [
    path("shelf/<int:number>/", shelf),
    path("broken/<int:number>/", broken),
    path("silk/", include("silk.urls", namespace="silk")),
    path("__debug__/", include("debug_toolbar.urls")),
    path("", include("django_prometheus.urls")),
]

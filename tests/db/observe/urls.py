"""The views of these tests: each does what its test has put into `work`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpResponse
from django.urls import path

work: list[Callable[[], object]] = []


def order(request: Any, number: str) -> HttpResponse:
    """Name as in most projects."""
    return HttpResponse(str(work[0]()))


def of_tenant(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """As django-hosts and django-tenants do it."""

    def middleware(request: Any) -> Any:
        request.urlconf = "tests.db.observe.tenant_urls"
        return get_response(request)

    return middleware


urlpatterns = [
    path("orders/<str:number>/", order, name="order"),
    path("plain/<str:number>/", order),
]

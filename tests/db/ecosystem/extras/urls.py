"""A view under pghistory's middleware."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.db.ecosystem.extras.models import Order


def order(request: HttpRequest, number: int) -> HttpResponse:
    made = Order.objects.create(number=number)
    made.state = "paid"
    made.save()
    return HttpResponse(made.state)


urlpatterns = [path("order/<int:number>/", order)]

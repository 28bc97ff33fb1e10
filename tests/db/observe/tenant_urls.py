"""A tenant's URLconf."""

from __future__ import annotations

from django.urls import path

from tests.db.observe.urls import order

urlpatterns = [path("orders/<str:number>/", order, name="tenant-order")]

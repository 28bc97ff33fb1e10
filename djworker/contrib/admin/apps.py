"""The application's name and label."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["ServerPageConfig"]


class ServerPageConfig(AppConfig):
    """Django's admin has the label ``admin`` already."""

    name = "djworker.contrib.admin"
    label = "djworker_admin"
    verbose_name = "djworker"
    default_auto_field = "django.db.models.BigAutoField"

"""What the permissions and the entry in the admin's index hang on. It has no table."""

from __future__ import annotations

from typing import Final

from django.db import models

__all__ = ["OPERATE", "VIEW", "Workers"]

VIEW: Final = "djworker_admin.view"
OPERATE: Final = "djworker_admin.operate"


class Workers(models.Model):
    """The workers of the server that serves this project."""

    class Meta:
        """No table, and two permissions."""

        managed = False
        default_permissions = ()
        permissions = (
            ("view", "Can see the server and what its requests do"),
            ("operate", "Can reload the server and replace its workers"),
        )
        verbose_name = verbose_name_plural = "workers"

    def __str__(self) -> str:
        return "workers"

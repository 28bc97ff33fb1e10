"""A model whose operations are counted."""

from __future__ import annotations

from django.db import models
from django_prometheus.models import ExportModelOperationsMixin


class Book(ExportModelOperationsMixin("book"), models.Model):  # type: ignore[misc]
    title = models.CharField(max_length=50)

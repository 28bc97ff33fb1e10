"""What tasks write."""

from __future__ import annotations

from django.db import models


class Result(models.Model):
    task = models.CharField(max_length=20)
    number = models.IntegerField()
    value = models.CharField(max_length=50)

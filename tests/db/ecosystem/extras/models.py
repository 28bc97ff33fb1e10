"""One model for each package."""

from __future__ import annotations

import pghistory
import pgtrigger
from django.db import models


@pghistory.track()
class Order(models.Model):
    number = models.IntegerField()
    state = models.CharField(max_length=20, default="new")


class Treasure(models.Model):
    """Cannot be deleted."""

    number = models.IntegerField()

    class Meta:
        triggers = (pgtrigger.Protect(name="protect", operation=pgtrigger.Delete),)


class Shelf(models.Model):
    """Is kept in the cache."""

    name = models.CharField(max_length=20)


class Counter(models.Model):
    """Is read and written under a lock."""

    value = models.IntegerField(default=0)

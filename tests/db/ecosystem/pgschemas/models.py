"""Tenants and their hosts."""

from __future__ import annotations

from django.db import models
from django_pgschemas.models import TenantModel
from django_pgschemas.routing.models import DomainModel


class Client(TenantModel):
    name = models.CharField(max_length=20)


class Domain(DomainModel):
    pass

"""Django's PostGIS backend on a green pool."""

from __future__ import annotations

from django.contrib.gis.db.backends.postgis import base
from django.contrib.gis.db.backends.postgis.operations import PostGISOperations

from djworker.db.backends.postgresql.base import ComposesSQL, PostgresMixin


class DatabaseOperations(ComposesSQL, PostGISOperations):
    """[worker] Django's."""


class DatabaseWrapper(PostgresMixin, base.DatabaseWrapper):
    """[worker] Django's, leasing."""

    ops_class = DatabaseOperations

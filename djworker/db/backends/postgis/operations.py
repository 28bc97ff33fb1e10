"""Django's operations, on a lease."""

from __future__ import annotations

from typing import Any

from django.contrib.gis.db.backends.postgis.operations import *  # noqa: F403 - packages take more than the class from here
from django.contrib.gis.db.backends.postgis.operations import PostGISOperations
from django.utils.functional import cached_property

from djworker.db.backends.postgresql.operations import ComposesSQL


class KnowsVersion(ComposesSQL):
    """[worker] PostGIS's version is a property of the server."""

    @cached_property
    def spatial_version(self) -> object:
        """Asked once per pool, and not once per request."""
        wrapper: Any = self.connection
        facts = wrapper.facts if wrapper.bare else wrapper.leased_pool.facts
        if "spatial_version" not in facts:
            facts["spatial_version"] = super().spatial_version  # type: ignore[misc]  # Django's, below
        return facts["spatial_version"]


class DatabaseOperations(KnowsVersion, PostGISOperations):
    """[worker] Django's."""

"""Django's PostGIS backend on a green pool."""

from __future__ import annotations

from typing import Any

from django.contrib.gis.db.backends.postgis import base
from django.contrib.gis.db.backends.postgis.operations import PostGISOperations
from django.utils.functional import cached_property

from djworker.db.backends.postgresql.base import ComposesSQL, PostgresMixin
from djworker.db.lease import Lease


class DatabaseOperations(ComposesSQL, PostGISOperations):
    """[worker] Django's."""

    @cached_property
    def spatial_version(self) -> Any:
        """Asked once per pool, and not once per request."""
        wrapper: Any = self.connection
        facts = wrapper.facts if wrapper.bare else wrapper.home.facts
        if "spatial_version" not in facts:
            facts["spatial_version"] = super().spatial_version
        return facts["spatial_version"]


class DatabaseWrapper(PostgresMixin, base.DatabaseWrapper):
    """[worker] Django's, leasing. PostGIS's types are registered on each physical connection as it is made."""

    ops_class = DatabaseOperations
    _type_infos: dict[str, dict[str, Any]]

    def register_geometry_adapters(self, pg_connection: Any, clear_caches: bool = False) -> None:  # noqa: FBT001, FBT002
        """Django calls it with the lease when it has just created the extension: all connections are replaced."""
        if not isinstance(pg_connection, Lease):
            super().register_geometry_adapters(pg_connection, clear_caches)
            return
        for known in self._type_infos.values():
            known.pop(self.alias, None)
        self.close_pool()

"""Django's PostGIS backend on a green pool."""

from __future__ import annotations

from typing import Any, Final

from django.contrib.gis.db.backends.postgis import base

from djworker.db.backends.mixin import Announcer
from djworker.db.backends.postgis.operations import DatabaseOperations, KnowsVersion
from djworker.db.backends.postgresql.base import PostgresMixin
from djworker.db.lease.raw_connection import LeasedConnection


class PostGISMixin(PostgresMixin):
    """[worker] What stands above Django's: PostGIS's types are registered on each physical connection as it is made."""

    operations_mixin = KnowsVersion
    _type_infos: dict[str, dict[str, object]]

    def register_geometry_adapters(self, pg_connection: object, clear_caches: bool = False) -> None:  # noqa: FBT001, FBT002 - Django's shape
        """Django calls it with the lease when it has just created the extension: all connections are replaced."""
        if type(pg_connection) is not LeasedConnection:
            super().register_geometry_adapters(pg_connection, clear_caches)  # type: ignore[misc]  # Django's, below
            return
        for known in self._type_infos.values():
            known.pop(self.alias, None)
        self.close_pool()


class DatabaseWrapper(PostGISMixin, base.DatabaseWrapper, Announcer):
    """[worker] Django's, leasing."""

    ops_class = DatabaseOperations


#: What is put above and below an engine that is built on Django's own.
AROUND: Final = (PostGISMixin, Announcer)


def __getattr__(name: str) -> Any:
    """Django's: packages take more than the class from here."""
    return getattr(base, name)

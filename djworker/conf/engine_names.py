"""The names of engines in `DATABASES`: Django's, ours that stand for them, and those of packages that we know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["ENGINES", "GEVENTPOOL", "MAX_CONNS", "NO_DATABASE", "POOLED", "SQLITE", "is_pooled", "may_be_pooled"]

#: Our engine for each of Django's.
ENGINES: Final[Mapping[str, str]] = {
    "django.db.backends.postgresql": "djworker.db.backends.postgresql",
    "django.contrib.gis.db.backends.postgis": "djworker.db.backends.postgis",
    "django.db.backends.mysql": "djworker.db.backends.mysql",
    "django.db.backends.sqlite3": "djworker.db.backends.sqlite3",
}
#: What Django puts where ``DATABASES`` names none.
NO_DATABASE: Final = "django.db.backends.dummy"
SQLITE: Final = "djworker.db.backends.sqlite3"
#: Ours that have a pool.
POOLED: Final = frozenset(ENGINES.values()) - {SQLITE}
#: What the engines of django-db-geventpool begin with: they have a pool, and options of their own.
GEVENTPOOL: Final = "django_db_geventpool.backends."
#: Connections in each of their pools, where `OPTIONS` do not say it: django-db-geventpool's default.
MAX_CONNS: Final = 4
#: What the names of Django's engines without a pool end with, whatever package they are in.
_UNPOOLED: Final = (".sqlite3", ".spatialite", ".oracle", ".dummy")


def is_pooled(engine: str) -> bool:
    """Whether an engine of `DATABASES` has a pool, and Django's `OPTIONS["pool"]` is about it."""
    return ENGINES.get(engine, engine) in POOLED


def may_be_pooled(engine: str) -> bool:
    """Whether an engine of `DATABASES` has a pool, as far as its name tells: one of another package may be built on ours."""
    return bool(engine) and not engine.endswith(_UNPOOLED) and not engine.startswith(GEVENTPOOL)

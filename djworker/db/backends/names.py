"""The names of engines: Django's, ours, and those of django-db-geventpool."""

from __future__ import annotations

from typing import Final

#: Our engine for each of Django's.
ENGINES: Final = {
    "django.db.backends.postgresql": "djworker.db.backends.postgresql",
    "django.contrib.gis.db.backends.postgis": "djworker.db.backends.postgis",
    "django.db.backends.mysql": "djworker.db.backends.mysql",
    "django.db.backends.sqlite3": "djworker.db.backends.sqlite3",
}
SQLITE: Final = "djworker.db.backends.sqlite3"
#: Ours that have a pool.
POOLED: Final = frozenset(ENGINES.values()) - {SQLITE}
#: What the engines of django-db-geventpool begin with.
GEVENTPOOL: Final = "django_db_geventpool.backends."
#: Connections; django-db-geventpool's default.
MAX_CONNS: Final = 4

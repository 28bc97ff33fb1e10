"""Django's own: packages look for it beside the base of the engine that they are built on."""

from __future__ import annotations

from django.contrib.gis.db.backends.postgis.schema import *  # noqa: F403 - the whole of it

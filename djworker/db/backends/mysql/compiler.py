"""Django's own: packages look for it beside the base of the engine that they are built on."""

from __future__ import annotations

from django.db.backends.mysql.compiler import *  # noqa: F403 - the whole of it

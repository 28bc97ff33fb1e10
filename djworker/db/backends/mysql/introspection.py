"""Django's own: packages look for it beside the base of the engine that they are built on."""

from __future__ import annotations

import django.db.backends.mysql.base  # noqa: F401 - first: from Django 6.1 on the two import each other
from django.db.backends.mysql.introspection import *  # noqa: F403 - the whole of it

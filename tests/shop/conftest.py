"""The shop is tested on each database."""

from __future__ import annotations

from tests.db.fixtures import *  # noqa: F403  # fixtures are found by their names here

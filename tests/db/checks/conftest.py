"""Checks run in fresh interpreters, and at the boot of real servers."""

from __future__ import annotations

from tests.processes.conftest import make_server, project, scratch, server, template  # noqa: F401

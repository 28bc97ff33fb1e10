"""The shop is tested on each database, and behind the server, full of goods."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.db.fixtures import *  # noqa: F403 - fixtures are found by their names here
from tests.processes.conftest import make_server, scratch, server, template  # noqa: F401 - likewise
from tests.processes.project import Project, copy_template


@pytest.fixture
def project(template: Path, scratch: Path) -> Project:  # noqa: F811 - pytest's way
    """A seeded copy of the shop."""
    project = copy_template(template, scratch / "shop")
    subprocess.run([sys.executable, "manage.py", "seed", "--verbosity=0"], cwd=project.folder, check=True)
    return project

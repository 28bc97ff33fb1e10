"""The shop is tested on each database, and behind the server, full of goods."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.db.fixtures import *  # noqa: F403 - fixtures are found by their names here
from tests.processes.conftest import made_template, make_server, scratch, server  # noqa: F401 - likewise
from tests.processes.project import Project, copy_template


@pytest.fixture(scope="session")
def template() -> Iterator[Path]:
    """The whole shop."""
    with made_template(whole=True) as folder:
        yield folder


@pytest.fixture(scope="session")
def seeded(template: Path) -> Iterator[Path]:
    """The shop, full of goods."""
    folder = Path(tempfile.mkdtemp(prefix="shop-"))
    folder.chmod(0o755)
    project = copy_template(template, folder)
    subprocess.run([sys.executable, "manage.py", "seed", "--verbosity=0"], cwd=project.folder, check=True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def project(seeded: Path, scratch: Path) -> Project:  # noqa: F811 - pytest's way
    """A copy of it that this test may spoil."""
    return copy_template(seeded, scratch / "shop")

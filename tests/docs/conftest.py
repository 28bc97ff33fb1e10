"""A machine for all tests of a module, and a project in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docs import shop
from tests.docs.machine import Machine
from tests.processes.project import Project
from tests.processes.server import MANAGE, Server


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Namespaces with a user ``shop``, and the interpreter of this test run as ``/srv/shop/venv``."""
    if subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, check=False).returncode:
        pytest.skip("root may not have namespaces here: in a container, that takes CAP_SYS_ADMIN")
    made = Machine(tmp_path_factory.mktemp("machine"))
    shop.make(made.path("/srv/shop"))
    made.path("/srv/shop/venv").mkdir()
    made.run("mount", "--bind", sys.prefix, "/srv/shop/venv")
    made.path("/srv/shop/data").mkdir()
    made.run("chown", "shop:shop", "/srv/shop/data")
    made.run("chmod", "-R", "a+rX", "/srv/shop/shop", "/srv/shop/manage.py")
    yield made
    made.close()


@pytest.fixture
def project(machine: Machine) -> Iterator[Path]:
    """The project's folder, whose files are brought back after the test."""
    folder = machine.path("/srv/shop/shop")
    before = {path: path.read_text() for path in folder.glob("*.py")}
    yield folder
    for path, text in before.items():
        path.write_text(text)


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[[Project], Server]]:
    """Servers of a project, each of which is checked at the end of the test."""
    made: list[Server] = []

    def make(project: Project) -> Server:
        made.append(Server(project, tmp_path))
        made[-1].program = MANAGE
        return made[-1]

    yield make
    for server in made:
        server.close()

"""Fixtures: a project of one's own, and servers on it whose end is checked after every test."""

from __future__ import annotations

import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes.project import Project, copy_template, make_template
from tests.processes.server import MODULE, Server


@pytest.fixture(scope="session", autouse=True)
def _no_core_dumps() -> None:
    """Workers crash here on purpose."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


@contextmanager
def made_template(*, whole: bool = False) -> Iterator[Path]:
    """The shop with drills and a database; outside pytest's own folders, which other users may not enter."""
    folder = Path(tempfile.mkdtemp(prefix="shop-"))
    folder.chmod(0o755)
    make_template(folder, whole=whole)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def template() -> Iterator[Path]:
    """The shop without what takes long to load."""
    with made_template() as folder:
        yield folder


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A short path, as unix sockets need, that any user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="dj-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def project(template: Path, scratch: Path) -> Project:
    """A copy of the shop that this test may spoil."""
    return copy_template(template, scratch / "shop")


@pytest.fixture
def make_server(request: pytest.FixtureRequest, project: Project, scratch: Path) -> Iterator[Callable[[], Server]]:
    """Servers that are not started yet, by the module's PROGRAM where it has one; each is checked at the end."""
    made: list[Server] = []

    def make(of: Project = project) -> Server:
        folder = scratch / f"server{len(made)}"
        folder.mkdir()
        made.append(Server(of, folder))
        made[-1].program = getattr(request.module, "PROGRAM", MODULE)
        return made[-1]

    yield make
    problems = []
    for server in reversed(made):
        try:
            server.close()
        except AssertionError as error:
            problems.append(error)
        finally:
            print(server.story())  # pytest shows it when the test failed
    if problems:
        raise problems[0]


@pytest.fixture
def server(make_server: Callable[[], Server]) -> Server:
    """A server that is not started yet."""
    return make_server()

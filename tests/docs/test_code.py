"""Python of the pages, in a fresh project that a real server serves."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs import shop
from tests.docs.blocks import Block, runs
from tests.processes.project import Project
from tests.processes.server import Server

URLS = """
from django.urls import path

{imports}

urlpatterns = [{paths}]
"""
SETTINGS = """
DEBUG = False
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS += ["djworker", "shop"]
LOGGING = {"version": 1, "disable_existing_loggers": False}
"""


@pytest.fixture
def fresh(tmp_path: Path) -> Project:
    """What startproject makes, with SQLite that is migrated."""
    shop.start_project(tmp_path / "fresh")
    shop.append(tmp_path / "fresh" / "shop" / "settings.py", SETTINGS)
    return Project(tmp_path / "fresh")


def write(project: Project, **blocks: Block) -> None:
    """Each block becomes a module, whose last function is a page."""
    views = {name: re.findall(r"^(?:async )?def (\w+)", block.text, re.MULTILINE)[-1] for name, block in blocks.items()}
    for name, block in blocks.items():
        project.write(f"shop/{name}.py", block.text)
    imports = "\n".join(f"from shop import {name}" for name in blocks)
    paths = ", ".join(f'path("{name}", {name}.{view})' for name, view in views.items())
    project.write("shop/urls.py", URLS.format(imports=imports, paths=paths))


@runs("howto/async-views.md", "asyncio.gather", "StreamingHttpResponse")
def test_the_async_views_answer(
    make_server: Callable[[Project], Server], fresh: Project, blocks: tuple[Block, Block]
) -> None:
    write(fresh, numbers=blocks[0], events=blocks[1])
    fresh.append(
        "shop/urls.py", "from django.core.management import call_command\ncall_command('migrate', verbosity=0)"
    )
    server = make_server(fresh).start(workers=1, probe="off")
    assert server.get("/numbers").json() == {"all": 0, "staff": 0}
    assert server.get("/events").body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


@runs("howto/deadlines.md", "djworker.deadlines")
def test_the_views_with_deadlines_answer(
    make_server: Callable[[Project], Server], fresh: Project, blocks: tuple[Block]
) -> None:
    write(fresh, views=blocks[0])
    more = "path('search', views.search), path('export', views.export)"
    fresh.append("shop/urls.py", f"urlpatterns += [{more}]")
    server = make_server(fresh).start(workers=1, probe="off", request_timeout=30)
    assert 0 < server.get("/search").json()["left"] <= 5
    assert server.get("/export").json()["left"] is None
    assert 60 < server.get("/views").json()["left"] <= 90


@runs("howto/forks.md", "get_context", "gevent.Timeout")
def test_the_views_that_fork_and_that_stop_in_time_answer(
    make_server: Callable[[Project], Server], fresh: Project, blocks: tuple[Block, Block]
) -> None:
    write(fresh, squares=blocks[0], report=blocks[1])
    server = make_server(fresh).start(workers=1, probe="off")
    assert server.get("/squares").json() == {"squares": [0, 1, 4, 9]}
    assert server.get("/report").status == 503


@runs("reference/hooks.md", "class ShopConfig")
def test_the_hook_is_called(make_server: Callable[[Project], Server], fresh: Project, blocks: tuple[Block]) -> None:
    fresh.write("shop/apps.py", blocks[0].text)
    server = make_server(fresh).start(workers=1, probe="off")
    told = server.wait_for("log")["message"]
    assert told == f"worker 0 of generation 1 is process {server.worker()}"

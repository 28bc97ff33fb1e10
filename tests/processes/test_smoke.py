"""``--smoke`` on real trees: what passes, what does not, and what is said of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from djworker.control.schemas import SMOKE
from djworker.smoke.server import OVERRIDDEN
from tests.db.fixtures import postgres, postgres_db
from tests.db.servers import PostgresServer
from tests.docs.blocks import Block, runs
from tests.processes import procfs, small
from tests.processes.server import environment
from tests.schema import complaints

__all__ = ["postgres", "postgres_db"]

VIEWS = """
import atexit, os, socket, subprocess, time
import gevent
from django.db import connection
from django.http import HttpResponse
from django.urls import path
kept = []

def good(request):
    return HttpResponse("good")

def moved(request):
    return HttpResponse(status=302, headers={"Location": "/"})

def raises(request):
    raise ValueError("no such price")

def hold():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        connection.set_autocommit(False)
        cursor.execute("SELECT 1")
        gevent.sleep(1000)

def leaks_lease(request):
    kept.append(gevent.spawn(hold))
    gevent.sleep(0.05)
    return HttpResponse("leaks")

def leaks_socket(request):
    kept.append(socket.create_connection(("127.0.0.1", int(request.META["SERVER_PORT"]))))
    return HttpResponse("leaks")

def leaks_child(request):
    kept.append(subprocess.Popen(["sleep", "600"], start_new_session=True))
    return HttpResponse("leaks")

urlpatterns = [path("", good), path("moved", moved), path("raises", raises), path("lease", leaks_lease),
               path("socket", leaks_socket), path("child", leaks_child)]
"""
ABOVE = """
import gevent
from django.db import connection
from djworker.signals import worker_ready

def fill(**kwargs):
    gevent.spawn(hold)

def hold():
    pool = connection.leased_pool.pool
    for _ in range(3):
        pool.acquire()
    pool.resize(0, 1)
    gevent.sleep(600)

worker_ready.connect(fill)
"""
HANGS = """
import time
from django.apps import AppConfig
from djworker.signals import worker_exiting

class Shop(AppConfig):
    name = "shop"
    def ready(self):
        worker_exiting.connect(wait_for_ever)

def wait_for_ever(**kwargs):
    time.sleep(600)
"""


@pytest.fixture
def folder(scratch: Path) -> Path:
    """A small project with views of every kind."""
    base = f"{small.FILES['shop/base.py']}INSTALLED_APPS = ['djworker']\n"
    return small.make(scratch / "shop", {"shop/urls.py": VIEWS, "shop/base.py": base}).folder


def configure(folder: Path, postgres: PostgresServer, name: str) -> None:
    """Have the project use a database of this server."""
    server = {"HOST": postgres.host, "PORT": postgres.port, "USER": postgres.user, "PASSWORD": postgres.password}
    databases = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": name, **server}}
    with (folder / "shop" / "base.py").open("a") as file:
        file.write(f"\nDATABASES = {databases!r}\n")


def smoke(
    folder: Path, *words: str, code: int, workers: int = 1, program: tuple[str, ...] = ("-m", "djworker", "shop.wsgi")
) -> str:
    """Run it; what it prints. Nothing of the tree is left."""
    done = subprocess.run(
        [sys.executable, *program, "--workers", str(workers), "--graceful-timeout=1", "--smoke", *words],
        cwd=folder,
        env=environment({"SMOKE_OF": str(folder)}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert not procfs.tree(f"SMOKE_OF={folder}".encode(), "")
    assert len(done.stdout.splitlines()) <= 20 or "--json" in words
    return done.stdout + done.stderr


def test_a_good_project_passes_on_every_worker(folder: Path) -> None:
    said = json.loads(
        smoke(
            folder,
            "/",
            "/moved",
            "--expect",
            "200,302",
            "--json",
            code=0,
            workers=2,
            program=("manage.py", "runworkers"),
        )
    )
    assert (said["ok"], said["workers"], said["paths"]) == (True, 2, ["/", "/moved"])
    assert said["statuses"].keys() == {"200", "302"}
    assert [check["outcome"] for check in said["checks"]] == ["ok"] * 6
    assert not list(complaints(SMOKE, said))


def test_a_view_that_raises_is_named_with_its_place(folder: Path) -> None:
    said = smoke(folder, "/", "/raises", code=1)
    assert "GET /raises: 500, wanted 2xx or 3xx: ValueError: no such price" in said
    assert "shop/urls.py:16" in said


def test_a_status_that_is_not_expected_fails(folder: Path) -> None:
    assert "GET /moved: 302, wanted 200" in smoke(folder, "/moved", "--expect=200", code=1)


def test_a_leaked_lease_is_told_with_its_worker(folder: Path, postgres: PostgresServer, postgres_db: str) -> None:
    configure(folder, postgres, postgres_db)
    said = smoke(folder, "/lease", code=1)
    assert "connections of 'default' were not given back after the requests; held by" in said
    assert "FAILED   leaks     worker 0 (pid" in said


def test_a_pool_above_its_bound_is_told_with_its_numbers(
    folder: Path, postgres: PostgresServer, postgres_db: str
) -> None:
    """As a fault of ours would have it: a pool that is made smaller while more is lent."""
    configure(folder, postgres, postgres_db)
    with (folder / "shop" / "urls.py").open("a") as file:
        file.write(ABOVE)
    said = smoke(folder, "/", code=1)
    assert "3 connections in the pool of 'default', which may have 1" in said
    assert "FAILED   pool" in said


def test_a_leaked_socket_is_told_with_its_other_end(folder: Path) -> None:
    said = smoke(folder, "/socket", code=1)
    assert "never closed; one is a connection to 127.0.0.1:" in said


def test_a_child_that_outlives_its_request_is_named(folder: Path) -> None:
    said = smoke(folder, "/child", code=1)
    assert "child processes that requests have begun still run" in said
    assert "(sleep 600)" in said


def test_code_that_does_not_import_is_named_with_its_place(folder: Path) -> None:
    with (folder / "shop" / "urls.py").open("a") as file:
        file.write("\nimport no_such_module\n")
    said = smoke(folder, code=1)
    assert "FAILED   boot" in said
    assert "No module named 'no_such_module'" in said
    assert "shop/urls.py:" in said


def test_a_module_that_does_not_exist_is_named(folder: Path) -> None:
    said = smoke(folder, code=1, program=("-m", "djworker", "shop.missing"))
    assert "FAILED   boot" in said
    assert "shop.missing" in said


def test_a_stop_that_hangs_is_told_with_what_hangs(folder: Path) -> None:
    (folder / "shop" / "apps.py").write_text(HANGS)
    with (folder / "shop" / "base.py").open("a") as file:
        file.write('\nINSTALLED_APPS = ["shop.apps.Shop", "djworker"]\n')
    said = smoke(folder, code=1)
    assert "a receiver of worker_exiting still runs" in said
    assert "wait_for_ever" in said


def test_words_that_are_wrong_are_refused_at_once(folder: Path) -> None:
    said = smoke(folder, "moved", code=2)
    assert "'moved' is no path" in said
    assert said.startswith("usage: --smoke [PATH ...] [--expect STATUSES] [--json]\n")
    assert "'ok' is no status" in smoke(folder, "--expect", "ok", code=2)
    done = subprocess.run(
        [sys.executable, "-m", "djworker", "shop.wsgi", "--json"],
        cwd=folder,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "--json belongs to --smoke" in done.stderr


def test_addresses_of_the_command_line_are_left_alone(folder: Path) -> None:
    """A server may run there: that it does not start for want of the port is no fault of the code."""
    said = smoke(folder, code=0, program=("-m", "djworker", "shop.wsgi", "127.0.0.1:1", "--bind", "127.0.0.1:2"))
    assert "passed" in said
    assert "--bind=127.0.0.1:0" in OVERRIDDEN


def scripts_of(job: object) -> list[str]:
    """Every command of a job, as GitHub or GitLab has it."""
    if isinstance(job, dict):
        own = list(job.get("script", [])) + ([job["run"]] if "run" in job else [])
        return own + [line for value in job.values() for line in scripts_of(value)]
    return [line for item in job for line in scripts_of(item)] if isinstance(job, list) else []


@runs("howto/smoke.md", "djworker shop.wsgi --smoke", "runs-on: ubuntu-latest", "image: python:3.13")
def test_the_jobs_of_the_documentation_pass(folder: Path, blocks: tuple[Block, ...]) -> None:
    (folder / "shop" / "settings.py").write_text("from shop.prod import *\n")
    (folder / "shop" / "urls.py").write_text(VIEWS.replace('path("moved", moved)', 'path("admin/login/", moved)'))
    sample, *jobs = blocks
    for job in jobs:
        *_, line = scripts_of(yaml.safe_load(job.text))
        assert line == "python manage.py runworkers --smoke / /admin/login/ --workers 2"
    prompt, *shown = sample.text.splitlines()
    assert prompt.endswith("--smoke / /admin/login/ --workers 2")
    said = smoke(folder, "/", "/admin/login/", code=0, workers=2, program=("manage.py", "runworkers"))
    assert [line.split()[:2] for line in said.splitlines()[:-1]] == [line.split()[:2] for line in shown[:-1]]
    assert said.splitlines()[-1].startswith("passed: ")

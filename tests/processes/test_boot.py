"""The first start: what is wrong is said at once, in one line each, and nothing is left behind."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable

import pytest

from tests.processes.project import SETTINGS, URLS, VIEWS, Project
from tests.processes.server import Server, command, environment


def test_one_command_serves_a_real_project(server: Server) -> None:
    server.start()
    assert server.get("/hello").status == 200
    assert server.get("/drill/query").json()["count"] > 0
    assert server.get("/nothing/here").status == 404
    assert server.stop() == 0
    assert server.events("stopped", code=0)


def test_application_that_raises_on_import(server: Server, scratch: object) -> None:
    pidfile = server.scratch / "pid"
    server.leaves_nothing_at.append(pidfile)
    server.project.append(VIEWS, 'raise RuntimeError("the drill is broken")')
    server.launch(pid=pidfile, bind=[f"unix:{server.scratch}/sock", "127.0.0.1:0"])
    assert server.wait() == 3
    failed = server.wait_for("mold_failed")
    assert failed["module"] == "testproject.drills"
    assert "the drill is broken" in failed["error"]
    assert "Traceback" in failed["traceback"]
    assert not server.events("worker_spawned")
    assert server.wait_for("stopped")["code"] == 3

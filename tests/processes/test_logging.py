"""What goes wrong is said, whatever the project has done to ``logging``."""

from __future__ import annotations

import platform
from collections.abc import Callable

import django
import pytest

import djworker
from tests.processes.project import SETTINGS, URLS, VIEWS
from tests.processes.server import Server

RAISES = "def raw(request):\n    raise KeyError('colour')"
#: Each silences every logger that there is; the second one comes after Django has set up everything.
SILENCING = {
    "by the settings": (SETTINGS, "LOGGING = {'version': 1, 'disable_existing_loggers': True}"),
    "by a later module": (URLS, "import logging.config\nlogging.config.dictConfig({'version': 1})"),
}


@pytest.mark.parametrize("how", SILENCING)
def test_a_view_that_raises_leaves_a_trace(server: Server, how: str) -> None:
    server.project.append(SETTINGS, "LOGGING = {}")  # Django's own
    server.project.append(*SILENCING[how])
    server.project.append(VIEWS, RAISES)
    server.start(workers=1)
    assert server.get("/raw?secret=1").status == 500
    said = server.wait_for("request_error", level="error")
    assert (said["method"], said["url"], said["view"]) == ("GET", "/raw", "raw")
    assert "KeyError: 'colour'" in said["traceback"]
    assert "plain.py" in said["traceback"]


def test_wrong_options_and_warnings_of_python_are_json_too(make_server: Callable[[], Server]) -> None:
    wrong, warns = make_server(), make_server()
    wrong.launch(keep_alive="long", workers="many")
    assert wrong.wait() == 2
    assert wrong.log.wait_for_end()
    assert {event["setting"] for event in wrong.events("config_error", level="error")} == {"keep_alive", "workers"}
    warns.project.append(URLS, "import warnings; warnings.warn('old ways', UserWarning)")
    warns.start(workers=1)
    assert warns.wait_for("python_warning")["message"] == "UserWarning: old ways"
    for server in (wrong, warns):
        server.close()
        assert not server.events("raw")


def test_what_the_project_logs_itself_is_not_said_twice(server: Server) -> None:
    server.project.append(VIEWS, RAISES)
    server.start(workers=1)
    assert server.get("/raw").status == 500
    assert server.stop() == 0
    (said,) = (event for event in server.events("log") if "KeyError: 'colour'" in event.get("traceback", ""))
    assert (said["logger"], said["role"]) == ("django.request", "worker"), "and as JSON"
    assert not server.events("raw")
    assert not server.events("request_error")


def test_an_async_view_that_raises_leaves_a_trace(server: Server) -> None:
    server.project.append(SETTINGS, "LOGGING = {}")
    server.project.append(VIEWS, RAISES.replace("def", "async def"))
    server.start(workers=1)
    assert server.get("/raw").status == 500
    assert "KeyError: 'colour'" in server.wait_for("request_error", view="raw")["traceback"]


C_THREAD = """
import ctypes
_libc, _thread = ctypes.CDLL(None), ctypes.c_ulong()
_libc.pthread_create(ctypes.byref(_thread), None, _libc.pause, None)
"""


def test_no_warning_of_python_is_of_our_making(server: Server) -> None:
    """With all of them shown: from Python 3.12 on, a fork beside a thread of C code (numpy's) would be one."""
    server.project.append(URLS, C_THREAD)
    server.start(workers=1, environ={"PYTHONWARNINGS": "default"})
    server.reload()
    assert server.stop() == 0
    said = [str(event) for event in (*server.events("python_warning"), *server.events("raw"))]
    assert not [text for text in said if "djworker" in text or "fork()" in text or "unclosed" in text]


def test_the_first_lines_say_what_is_served_and_with_what(server: Server) -> None:
    server.start(workers=1)
    started, loaded = server.wait_for("arbiter_started"), server.wait_for("project_loaded")
    assert started["settings"] == loaded["settings"] == "testproject.settings"
    assert (started["djworker"], started["django"]) == (djworker.__version__, django.get_version())
    assert started["python"] == loaded["python"] == platform.python_version()
    assert (started["pid"], started["workers"], started["preload"]) == (server.pid, 1, "auto")
    assert loaded["debug"] is False
    assert server.events("engine", alias="default")
    server.project.append(SETTINGS, "DEBUG = True\nSILENCED_SYSTEM_CHECKS = ['djworker.W201']")
    mark = server.reload()
    assert server.wait_for("project_loaded", since=mark)["debug"] is True

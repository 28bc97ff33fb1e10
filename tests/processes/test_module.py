"""``python -m djworker``: the same server without manage.py, which whatever does not load cannot end in its own way."""

from __future__ import annotations

import pytest

from tests.processes import procfs
from tests.processes.project import SETTINGS
from tests.processes.server import MODULE, SETTINGS_MODULE, Server


def test_it_is_the_same_server(server: Server) -> None:
    server.project.settings(WORKERS=1)
    server.launch(program=MODULE, environ=SETTINGS_MODULE, workers=None)
    server.wait_for("worker_ready")
    assert procfs.title(server.pid) == "djworker: arbiter [testproject]"
    assert server.wait_for("arbiter_started")["workers"] == 1, "as the settings say"
    assert server.get("/db").status == 200
    server.project.set_version(2)
    server.reload()
    server.wait_for_version(2)
    assert server.stop() == 0


@pytest.mark.parametrize(
    "code, module, says",
    [
        ('raise RuntimeError("no settings today")', "testproject.settings", "no settings today"),
        ("import no_such_thing", "testproject.settings", "No module named 'no_such_thing'"),
        ("def broken(:", "testproject.settings", "SyntaxError"),
        ("import sys; sys.exit(0)", "testproject.settings", "sys.exit(0)"),
    ],
)
def test_settings_that_do_not_load(server: Server, code: str, module: str, says: str) -> None:
    server.project.append(SETTINGS, code)
    server.launch(
        program=MODULE, environ=SETTINGS_MODULE, pid=server.scratch / "pid", bind=f"unix:{server.scratch}/sock"
    )
    assert server.wait() == 3
    told = server.wait_for("not_started")
    assert (told["stage"], told["module"]) == ("settings", module)
    assert says in told["error"]
    assert "Traceback" in told["traceback"]
    assert len(server.log.all()) == 1, "nothing was started"
    assert not list(server.scratch.glob("pid")) + list(server.scratch.glob("sock"))


@pytest.mark.parametrize(
    "name, code, module",
    [
        ("testproject/shop/models.py", "import no_such_thing", "testproject.shop.models"),
        ("testproject/shop/models.py", "raise RuntimeError('no models')", "testproject.shop.models"),
        (SETTINGS, "INSTALLED_APPS.append('no_such_app')", "testproject.settings"),
    ],
)
def test_applications_that_do_not_load(server: Server, name: str, code: str, module: str) -> None:
    server.project.append(name, code)
    server.leaves_nothing_at.append(server.scratch / "pid")
    server.launch(
        program=MODULE, environ=SETTINGS_MODULE, pid=server.scratch / "pid", bind=f"unix:{server.scratch}/sock"
    )
    assert server.wait() == 3
    failed = server.wait_for("mold_failed")
    assert (failed["stage"], failed["module"]) == ("setup", module)
    assert "Traceback" in failed["traceback"]


@pytest.mark.parametrize(
    "app, says",
    [
        ("testproject.asgi", "is an ASGI application: name the WSGI one"),
        ("testproject.wsgi:site", "testproject.wsgi has no site"),
        ("testproject.wsgi:os", "cannot be called as a WSGI application"),
        ("testproject.wsgi:os.getcwd()", "cannot be called as a WSGI application"),
    ],
)
def test_what_is_no_application_ends_the_start(server: Server, app: str, says: str) -> None:
    asgi = "import os; from django.core.asgi import get_asgi_application as get"
    server.project.write(
        "testproject/asgi.py",
        f"{asgi}\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'testproject.settings')\napplication = get()\n",
    )
    server.launch(program=(*MODULE, app))
    assert server.wait() == 3
    failed = server.wait_for("mold_failed")
    assert (failed["stage"], failed["module"]) == ("application", app.partition(":")[0])
    assert says in failed["error"]
    assert "ApplicationError" not in failed["error"]


@pytest.mark.parametrize("app", ["no_such_module.wsgi", "testproject.no_such_module"])
def test_a_module_that_is_not_there_is_told_before_anything_starts(server: Server, app: str) -> None:
    server.launch(program=(*MODULE, app))
    assert server.wait() == 3
    (told,) = server.log.all()
    assert (told["event"], told["stage"]) == ("not_started", "application")
    assert f"looked for in {server.project.folder}" in told["error"]

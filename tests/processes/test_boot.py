"""The first start: what is wrong is said at once, in one line each, and nothing is left behind."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import procfs
from tests.processes.events import eventually
from tests.processes.project import SETTINGS, URLS, VIEWS, Project
from tests.processes.server import MANAGE, Server, command, environment

#: As most projects start it.
PROGRAM = MANAGE
HANG = "import time; time.sleep(3600)"
#: A module that imports whatever gevent patches, and the drivers, on its first lines. A start takes a tenth longer with it.
IMPORT_ALL = 'from testproject import first_lines\nurlpatterns += [path("first-lines", first_lines.patched)]'

#: Runs the command that follows, with a variable before all others that every mold sets itself.
WITH_PYTHONPATH_FIRST = (
    "import os, sys; path = {'PYTHONPATH': '/nowhere'}; environ = path | dict(os.environ) | path;"
    "os.execve(sys.argv[1], sys.argv[1:], environ)"
)
FIRST_VARIABLE_ANEW = "import os\nname = next(iter(os.environ))\nos.environ[name] = os.environ.pop(name) + ' '"


def refuse(project: Project, **options: object) -> list[str]:
    """Run ``runworkers`` where it must not start; what it complains about, line by line."""
    done = subprocess.run(
        command(options),
        cwd=project.folder,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done
    return done.stderr.splitlines()


def test_one_command_serves_a_real_project(server: Server) -> None:
    server.start()
    assert server.get("/").status == 200
    assert server.get("/hello").status == 200
    assert server.get("/db").status == 200
    assert server.get("/nothing/here").status == 404
    assert server.stop() == 0
    assert server.events("stopped", code=0)


@pytest.mark.parametrize(
    "name, code, stage, module, says",
    [
        (VIEWS, 'raise RuntimeError("no such luck")', "urlconf", "testproject.shop.views.plain", "no such luck"),
        (VIEWS, "def broken(:", "urlconf", "testproject.shop.views.plain", "SyntaxError"),
        ("testproject/wsgi.py", 'raise RuntimeError("no wsgi")', "application", "testproject.wsgi", "no wsgi"),
        ("testproject/shop/models.py", "import no_such_thing", "setup", "testproject.shop.models", "no_such_thing"),
        (URLS, "import sys; sys.exit(4)", "urlconf", "testproject.urls", "sys.exit(4)"),
    ],
)
def test_application_that_raises_on_import(
    server: Server, name: str, code: str, stage: str, module: str, says: str
) -> None:
    server.leaves_nothing_at.append(server.scratch / "pid")
    server.project.append(name, code)
    if stage == "setup":  # models are imported by manage.py itself: only what comes after the start can reach the mold
        server.project.edit(name, code, f"import os\nif os.environ.get('DJWORKER_LAUNCH'): {code}")
    server.launch(pid=server.scratch / "pid", bind=[f"unix:{server.scratch}/sock", "127.0.0.1:0"])
    assert server.wait() == 3
    failed = server.wait_for("mold_failed")
    assert (failed["stage"], failed["module"]) == (stage, module)
    assert says in failed["error"]
    assert "Traceback" in failed["traceback"]
    assert not server.events("worker_spawned")
    assert server.events("stopped", code=3)


def test_first_mold_that_hangs(server: Server) -> None:
    server.project.append(VIEWS, HANG)
    server.launch(boot_timeout=8)  # longer than it takes to come to the hang
    assert server.wait() == 3
    assert "plain.py" in server.wait_for("mold_failed", level="error", stage="urlconf")["traceback"]


def test_first_mold_that_is_killed(server: Server) -> None:
    server.project.append(VIEWS, HANG)
    server.launch()
    server.kill(server.wait_for("mold_booting")["pid"])
    assert server.wait() == 3


def test_forks_that_fail_end_the_first_start(server: Server) -> None:
    server.expected.add("fork_failed")
    server.project.append(URLS, "import os; os.register_at_fork(after_in_child=lambda: os._exit(7))")
    server.launch()
    assert server.wait() == 3
    assert server.log.wait_for_end()
    assert server.events("backoff")


def hook(signal_name: str, code: str) -> str:
    """A receiver of a life-cycle signal."""
    return f"""
from djworker.signals import {signal_name}
def receiver(**kwargs):
    {code}
{signal_name}.connect(receiver, weak=False)
"""


def test_workers_that_never_boot_end_the_first_start(server: Server) -> None:
    server.project.append(URLS, hook("worker_started", "import os; os._exit(7)"))
    server.launch()
    assert server.wait() == 3
    assert server.log.wait_for_end()
    assert [event["seconds"] for event in server.events("backoff")] == [0.2, 0.4, 0.8]


def test_a_worker_whose_boot_hangs(server: Server) -> None:
    """Found by its deadline, killed, and tried again; whoever wants to stop then need not wait for it for ever."""
    hang = "import os; from gevent.monkey import get_original as g; os.path.exists('hang') and g('time', 'sleep')(99)"
    server.project.append(URLS, hook("worker_started", hang))
    server.project.settings(BOOT_TIMEOUT=30)
    server.start(boot_timeout=None, workers=1, graceful_timeout=1)
    server.project.settings(BOOT_TIMEOUT=3)
    server.reload()
    server.project.write("hang", "")
    mark = server.kill(server.ready()[0])
    killed = server.wait_for("worker_killed", since=mark)
    assert killed["reason"] == "boot_timeout"
    spawned = server.log.mark()
    server.wait_for("worker_spawned", since=spawned)


def test_all_problems_at_once(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        project.settings(WORKRES=3)
        lines = refuse(project, bind=f"127.0.0.1:{port}", user="nobody-of-that-name", timeout="soon", frobnicate="yes")
    assert len(lines) == 5, lines
    for part in (f"127.0.0.1:{port}", "nobody-of-that-name", "'soon'", "--frobnicate", "did you mean WORKERS"):
        assert sum(part in line for line in lines) == 1, (part, lines)


def test_a_second_start_on_the_same_port(server: Server) -> None:
    server.start()
    lines = refuse(server.project, bind=f"127.0.0.1:{server.address.port}")
    assert len(lines) == 1
    assert "another process listens there" in lines[0]
    assert server.get("/raw").status == 200


def test_a_second_start_with_the_same_pidfile(server: Server, make_server: Callable[[], Server]) -> None:
    pidfile = server.scratch / "pid"
    server.leaves_nothing_at.append(pidfile)
    server.start(pid=pidfile)
    assert pidfile.read_text() == f"{server.pid}\n"
    second = make_server()
    second.launch(pid=pidfile)
    assert second.wait() == 2
    assert str(server.pid) in second.wait_for("not_started")["message"]
    assert not second.events("mold_booting")
    assert pidfile.read_text() == f"{server.pid}\n"
    assert server.get("/raw").status == 200


def test_a_second_start_on_the_same_unix_socket(server: Server) -> None:
    server.start(bind=f"unix:{server.scratch}/sock")
    lines = refuse(server.project, bind=f"unix:{server.scratch}/sock")
    assert len(lines) == 1
    assert "another process listens there" in lines[0]
    assert server.get("/raw").status == 200


def test_what_a_killed_server_left_is_no_obstacle(make_server: Callable[[], Server], scratch: Path) -> None:
    options = {"bind": f"unix:{scratch}/sock", "pid": scratch / "pid"}
    first = make_server().start(**options)
    first.kill_arbiter()
    first.log.wait_for_end()
    assert (scratch / "sock").exists()
    second = make_server()
    second.leaves_nothing_at.append(scratch / "pid")
    second.start(**options)
    assert second.get("/raw").status == 200


def run_check(project: Project) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command({}, "--check"),
        cwd=project.folder,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_check_says_whether_the_project_can_serve(project: Project) -> None:
    fit = run_check(project)
    assert fit.returncode == 0, fit
    assert json.loads(fit.stderr.splitlines()[-1])["event"] == "check_passed"
    project.break_syntax()
    unfit = run_check(project)
    assert unfit.returncode == 3, unfit
    failed = json.loads(unfit.stderr.splitlines()[-1])
    assert (failed["event"], failed["module"]) == ("check_failed", "testproject.shop.views.plain")
    project.restore()
    project.settings(KEEP_ALIVE="long")
    assert run_check(project).returncode == 2


def test_print_config_names_the_source_of_each_value(project: Project) -> None:
    done = subprocess.run(
        command({"bind": "127.0.0.1:0", "log_format": None}, "--print-config", "--format", "json"),
        cwd=project.folder,
        env=environment({"WEB_CONCURRENCY": "7"}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    shown = json.loads(done.stdout)
    assert shown["workers"]["value"] == 2
    assert shown["workers"]["source"] == "command line --workers"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_stop_while_the_first_mold_boots(server: Server, number: signal.Signals) -> None:
    server.project.append(VIEWS, HANG)
    server.launch()
    server.wait_for("mold_booting")
    server.send(number)
    assert server.wait() == 0


def test_titles_name_role_slot_and_generation(server: Server) -> None:
    server.start(proc_name="emporium")
    assert procfs.title(server.pid) == "djworker: arbiter [emporium]"
    assert procfs.title(server.mold()) == "djworker: mold gen 1 [emporium]"
    assert [procfs.title(server.worker(slot)) for slot in (0, 1)] == [
        "djworker: worker 0 gen 1 [emporium]",
        "djworker: worker 1 gen 1 [emporium]",
    ]


@pytest.mark.parametrize("settings", ["", FIRST_VARIABLE_ANEW], ids=["as it came", "set by the settings"])
def test_titles_do_not_depend_on_the_first_variable_of_the_environment(server: Server, settings: str) -> None:
    """A title's place in memory is found by it. The mold sets PYTHONPATH itself, and settings may set what they like."""
    server.project.append(SETTINGS, settings)
    server.start(workers=1, prefix=[sys.executable, "-c", WITH_PYTHONPATH_FIRST])
    titles = [procfs.title(pid) for pid in (server.pid, server.mold(), server.worker())]
    roles = ["djworker: arbiter", "djworker: mold gen 1", "djworker: worker 0 gen 1"]
    assert titles == [f"{role} [testproject]" for role in roles]


def test_the_tree_is_one_arbiter_one_mold_and_workers(server: Server) -> None:
    """The workers are the arbiter's own children, and share the mold's memory."""
    server.start()
    those = [server.mold(), server.worker(0), server.worker(1)]
    assert sorted(server.settled()) == sorted([server.pid, *those])
    eventually(lambda: sorted(procfs.children(server.pid)) == sorted(those), "what has ended is reaped")


def test_nothing_can_be_imported_before_the_patch(server: Server) -> None:
    """A module imports it all on its first lines, and psycopg even chooses its wait function then."""
    server.project.append(URLS, IMPORT_ALL)
    server.start()
    found = server.get("/first-lines").json()
    saved = set(found.pop("saved"))
    assert saved >= {"socket", "ssl", "threading", "_thread", "select", "subprocess", "time", "os", "queue"}
    assert found.pop("psycopg") != "wait_c", "chosen at import: the one in C would block the hub"
    assert found == {
        "socket": "gevent._socket3",
        "ssl": "gevent.ssl",
        "lock": "gevent.thread",
        "local": "gevent._gevent_clocal",
        "sleep": "gevent.hub",
        "select": "gevent.select",
        "popen": "gevent.subprocess",
        "psycopg2": "psycogreen.gevent",
    }


def test_the_arbiter_knows_nothing_of_the_project(server: Server) -> None:
    server.project.append(URLS, IMPORT_ALL)
    server.start()
    maps = (procfs.PROC / str(server.pid) / "maps").read_text()
    assert "gevent" not in maps
    assert "greenlet" not in maps
    assert "psycopg" not in maps
    assert procfs.status(server.pid)["Threads"] == "1"


def test_settings_and_environment_and_command_line(server: Server) -> None:
    server.project.settings(WORKERS=3, GRACEFUL_TIMEOUT=5, TIMEOUT=7)
    server.launch(
        workers=None, timeout=None, graceful_timeout=4, environ={"DJWORKER_TIMEOUT": "8", "WEB_CONCURRENCY": "1"}
    )
    server.wait_for("worker_ready")
    assert server.wait_for("arbiter_started")["workers"] == 1
    assert len(server.ready()) == 1


def test_warm_up_asks_for_each_path(server: Server) -> None:
    server.project.edit(SETTINGS, '"GRACEFUL_TIMEOUT": 30', '"WARM_UP": ["/", "/db", "/hello?x=1"]')
    server.start()
    assert server.get("/db").status == 200


def test_warm_up_that_fails(server: Server) -> None:
    server.project.append(VIEWS, "def hello(request): raise RuntimeError('cold')")
    server.project.settings(WARM_UP=["/hello"])
    server.launch()
    assert server.wait() == 3
    failed = server.wait_for("mold_failed")
    assert failed["stage"] == "warm_up"
    assert "/hello answers 500" in failed["error"]
    assert "RuntimeError: cold" in failed["error"], "the view's own exception, where a text log has one line"
    assert "in hello" in failed["traceback"]
    server.tracebacks_expected = True

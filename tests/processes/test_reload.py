"""HUP: new code under load without a lost request; broken code never takes the site down."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks import wrk
from tests.processes import procfs
from tests.processes.control import ask
from tests.processes.events import eventually
from tests.processes.project import SETTINGS, URLS, VIEWS, Project
from tests.processes.server import MANAGE, Server

#: As most projects start it.
PROGRAM = MANAGE
HANG = "import time; time.sleep(3600)"
#: Seconds of ``boot_timeout`` in which a mold comes to what hangs, on a machine that does ten other things. It costs no work.
LONG_ENOUGH = 8
#: A module that goes on loading until there is a file.
UNTIL_GO = """
import os, time
while not os.path.exists("go"):
    time.sleep(0.02)
"""
#: A lock of C's that is taken twice, with Python's own lock held.
LOCKED = """
import ctypes
lock = ctypes.create_string_buffer(64)
for _ in range(2):
    ctypes.PyDLL(None).pthread_mutex_lock(lock)
"""
#: The first worker of this code boots, and the second when there is a file.
SECOND_WAITS = """
from djworker.signals import worker_started
def wait(**kwargs):
    import gevent, os, pathlib
    try:
        pathlib.Path("first").touch(exist_ok=False)
    except FileExistsError:
        while not os.path.exists("go"):
            gevent.sleep(0.02)
worker_started.connect(wait, weak=False)
"""
#: A greenlet that ends the worker soon after it is ready. The mold may not start it, so a hook does.
DIES = """
from djworker.signals import worker_ready
def die(**kwargs):
    import gevent, os
    gevent.spawn_later(0.3, os._exit, 5)
worker_ready.connect(die, weak=False)
"""


def test_good_code_under_wrk(server: Server) -> None:
    server.start()
    load = subprocess.Popen(
        ["wrk", "-t1", "-c8", "-d60s", "--timeout=20s", "--latency", f"{server.url}/debug/pid"],
        stdout=subprocess.PIPE,
        text=True,
    )
    server.project.set_version(2)
    mark = server.reload()
    load.send_signal(signal.SIGINT)
    output, _ = load.communicate(timeout=60)
    result = wrk.parse(output)
    assert result.errors == 0, output
    assert result.requests > 0
    assert server.fewest_ready(mark) == 2
    server.wait_for_version(2)


def test_good_code_under_load(server: Server) -> None:
    server.start()
    with server.load() as load:
        load.wait_for_answers()
        server.project.set_version(2)
        mark = server.reload()
        load.wait_for_version(2)
        load.wait_for_answers()
    load.assert_nothing_lost()
    assert server.fewest_ready(mark) == 2
    assert set(load.versions) == {1, 2}
    assert len(server.ready()) == 2


def test_requests_that_run_are_finished_by_old_code(server: Server) -> None:
    server.start()
    with server.held("/drill/version", 6) as slow:
        server.project.set_version(2)
        server.reload()
        server.wait_for_version(2)
    assert [request.answer().json()["version"] for request in slow] == [1] * 6


def _syntax(project: Project) -> None:
    project.break_syntax()


def _settings_fail(project: Project) -> None:
    project.append(SETTINGS, 'raise RuntimeError("no settings today")')


def _bad_option(project: Project) -> None:
    project.settings(KEEP_ALIVE="long")


def _bad_pool(project: Project) -> None:
    project.settings(POOL={"max_sise": 3})


def _checks_fail(project: Project) -> None:
    project.append(SETTINGS, 'LANGUAGES = [("no language", "None")]')


def _exits(project: Project) -> None:
    project.append(URLS, "import os; os._exit(9)")


def _thread(project: Project) -> None:
    project.append(URLS, "import threading, time\nthreading.Thread(target=time.sleep, args=(9,), name='worm').start()")
    project.settings(PRELOAD="on")


BROKEN: list[tuple[Callable[[Project], None], dict[str, str]]] = [
    (_syntax, {"event": "mold_failed", "stage": "urlconf", "module": "testproject.shop.views.plain"}),
    (_settings_fail, {"event": "mold_failed", "stage": "settings", "module": "testproject.settings"}),
    (_bad_option, {"event": "mold_failed", "stage": "settings", "module": "testproject.settings"}),
    (_bad_pool, {"event": "mold_failed", "stage": "settings", "module": "testproject.settings"}),
    (_checks_fail, {"event": "mold_failed", "stage": "checks"}),
    (_exits, {"event": "reload_failed"}),
    (_thread, {"event": "mold_failed", "stage": "leftovers", "module": "testproject.urls"}),
]


def test_code_that_does_not_boot(server: Server) -> None:
    """The old generation serves on untouched, the log says why, and the next good HUP works."""
    server.start()
    server.settled()
    with server.load(clients=2) as load:
        begin = server.log.mark()
        with server.same_descriptors():
            for spoil, says in BROKEN:
                spoil(server.project)
                mark = server.hup()
                server.wait_for("reload_failed", since=mark)
                said = dict(says)
                server.wait_for(said.pop("event"), since=mark, **said)
                server.project.restore()
        load.wait_for_answers()
        assert not server.events("worker_spawned", since=begin)
        server.project.set_version(3)
        server.reload()
        load.wait_for_version(3)
    load.assert_nothing_lost()
    assert server.fewest_ready(begin) == 2
    assert set(load.versions) == {1, 3}


def test_an_import_that_hangs(server: Server) -> None:
    server.project.settings(BOOT_TIMEOUT=30)
    server.start(boot_timeout=None, workers=1)
    server.project.settings(BOOT_TIMEOUT=LONG_ENOUGH)
    server.reload()
    server.project.append(VIEWS, HANG)
    mark = server.hup()
    server.wait_for("reload_failed", since=mark)
    failed = server.wait_for("reload_failed", since=mark)
    assert failed["module"] == "testproject.shop.views.plain"
    assert "plain.py" in failed["traceback"]
    assert server.events("mold_failed", since=mark, level="error")
    assert not server.events("reload_done", since=mark)
    server.wait_for_version(1)
    assert server.fewest_ready(mark) == 1


def test_an_import_that_hangs_in_c_code(server: Server) -> None:
    """No handler of Python's can run there; the stacks come from a file in memory."""
    server.project.settings(BOOT_TIMEOUT=30)
    server.start(boot_timeout=None, workers=1)
    server.project.settings(BOOT_TIMEOUT=LONG_ENOUGH)
    server.reload()
    server.project.append(VIEWS, LOCKED)
    mark = server.hup()
    failed = server.wait_for("reload_failed", since=mark)
    assert failed["stage"] == "boot_timeout"
    assert "plain.py" in failed["traceback"]
    assert server.events("mold_failed", since=mark, level="error")


def test_a_mold_that_is_killed_while_it_loads(server: Server) -> None:
    server.start()
    server.project.append(VIEWS, HANG)
    mark = server.hup()
    server.kill(server.wait_for("mold_booting", since=mark)["pid"])
    server.wait_for("reload_failed", since=mark)
    assert server.fewest_ready(mark) == 2
    server.project.restore()
    server.project.set_version(2)
    server.reload()
    server.wait_for_version(2)


def test_workers_that_die_after_boot_bring_the_old_code_back(server: Server) -> None:
    server.start()
    with server.load(clients=2) as load:
        server.project.append(URLS, DIES)
        server.project.set_version(2)
        mark = server.hup()
        assert server.wait_for("rollback", since=mark)["to"] == 1
        server.wait_for("reload_failed", since=mark)
        assert server.fewest_ready(mark) >= 2
        load.wait_for_answers()
        server.wait_for_version(1)
        server.project.restore()
        server.project.set_version(3)
        server.reload()
    # Requests on the workers that died are lost with them; those that other workers had are not.
    assert len(load.lost) <= 2 * len(server.events("worker_gone", status=5)), load.lost
    assert len(server.ready()) == 2


def test_a_mold_that_is_killed_during_its_rollout(server: Server) -> None:
    """The new workers have no mold any more; the old mold is still warm, so the old code comes back."""
    server.start()
    server.project.set_version(2)
    server.project.append(URLS, SECOND_WAITS)
    mark = server.hup()
    server.wait_for("worker_ready", since=mark)
    server.kill(server.mold())
    server.wait_for("reload_failed", since=mark)
    server.wait_for("rollback", since=mark)
    server.project.write("go", "")
    server.log.wait_until(lambda _: len(server.ready()) == 2)
    assert server.fewest_ready(mark) == 2
    server.wait_for_version(1)
    server.reload()
    server.wait_for_version(2)


def test_the_mold_is_killed_in_peace(server: Server) -> None:
    """Without a mold nobody could be forked: another is loaded at once."""
    server.start()
    mark = server.kill(server.mold())
    server.wait_for("mold_lost", since=mark)
    server.wait_for("mold_ready", since=mark)
    mark = server.kill(server.worker(0))
    server.wait_for("worker_ready", since=mark)
    assert server.get("/raw").status == 200


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_ten_in_a_row(server: Server) -> None:
    server.start(workers=1)
    server.reload()
    eventually(lambda: len(server.tree()) == 3, "arbiter, one mold, one worker")
    with server.load(clients=2) as load, server.same_descriptors():
        mark = server.log.mark()
        for version in range(2, 12):
            server.project.set_version(version)
            server.reload()
        load.wait_for_version(11)
    load.assert_nothing_lost()
    assert server.fewest_ready(mark) == 1
    assert len(server.ready()) == 1
    eventually(lambda: len(server.tree()) == 3, "arbiter, one mold, one worker")


def test_a_reload_is_not_done_while_an_old_worker_may_accept(server: Server) -> None:
    """It has not read yet that it is to retire: a client that connects now may still get the old code from it."""
    server.start(workers=1)
    server.project.set_version(2)
    with server.suspended(server.worker()):
        mark = server.hup()
        server.wait_for("worker_retired", since=mark)
        assert ask(server, "status")["generation"] == 2, "the arbiter has had time to say more"
        assert not server.events("reload_done", since=mark)
    server.wait_for("reload_done", since=mark)
    assert {server.version() for _ in range(20)} == {2}


def test_reload_during_a_reload(server: Server) -> None:
    """It is remembered once, whatever the number, and the last code on disk is what serves in the end."""
    server.start()
    with server.load(clients=2) as load:
        server.project.append(URLS, UNTIL_GO)
        server.project.set_version(2)
        mark = server.hup()
        server.wait_for("mold_booting", since=mark)
        for version in (3, 4, 5):
            server.project.set_version(version)
            queued = server.hup()
            server.wait_for("reload_queued", since=queued)
        server.project.write("go", "")
        server.wait_for("reload_done", since=mark, count=2)
    load.assert_nothing_lost()
    assert server.fewest_ready(mark) == 2
    server.wait_for_version(5)
    assert len(server.events("mold_booting", since=mark)) == 2


def test_new_settings_are_adopted(server: Server) -> None:
    server.project.settings(WORKERS=1, TIMEOUT=9)
    server.launch(workers=None, timeout=None)
    server.wait_for("worker_ready")
    server.project.settings(WORKERS=3, TIMEOUT=2, BIND=["127.0.0.1:1"], KEEP_ALIVE=3)
    mark = server.reload()
    assert server.wait_for("config_adopted", since=mark)["options"] == {"workers": 3, "timeout": 2.0, "keep_alive": 3.0}
    server.log.wait_until(lambda _: len(server.ready()) == 3)
    # The command line's bind wins over the settings', so a change there is not seen; the next line is what is.
    assert not server.events("needs_restart", since=mark)
    mark = server.log.mark()
    blocked = server.in_background("/debug/spin?s=60")
    assert server.wait_for("worker_killed", since=mark)["reason"] == "timeout"
    assert isinstance(blocked.result(), Exception)
    server.project.settings(WORKERS=1)
    mark = server.reload()
    assert len(server.ready()) == 1
    assert server.fewest_ready(mark) == 1


def test_what_needs_a_restart_is_said(server: Server) -> None:
    server.start(bind=None, environ={"PORT": "0"})
    address = server.address
    server.project.settings(BACKLOG=77, UMASK="027", KEEP_ALIVE=5)
    mark = server.reload()
    assert server.wait_for("needs_restart", since=mark)["options"] == ["backlog", "umask"]
    assert server.wait_for("config_adopted", since=mark)["options"] == {"keep_alive": 5.0}
    assert server.address == address
    mark = server.reload()
    assert not server.events("config_adopted", since=mark)


def test_descriptors_of_workers_do_not_grow(server: Server) -> None:
    """The third generation has no more than the first that was reloaded, and none of them is another child's."""
    server.start(workers=1)
    server.reload()
    first = settled_descriptors(server)
    for _ in range(2):
        server.reload()
    server.settled()
    try:
        eventually(lambda: no_more(descriptors_by_kind(server), first), "as many as before")
    except AssertionError:
        raise AssertionError(f"descriptors: {first} before, {descriptors_by_kind(server)} now") from None


def descriptors_by_kind(server: Server) -> dict[str, Counter[str]]:
    """How many of each kind the mold and the worker have. What a process reads of itself in /proc it has for a moment."""

    def kinds(pid: int) -> Counter[str]:
        names = procfs.descriptors(pid).values()
        return Counter(name.split(":")[0].split("/")[-1] for name in names if not name.startswith(f"/proc/{pid}/"))

    return {"mold": kinds(server.mold()), "worker": kinds(server.events("worker_ready")[-1]["pid"])}


def settled_descriptors(server: Server) -> dict[str, Counter[str]]:
    """The same, once it stays: the mold asks children what the code answers, and has a pipe from each for a while."""
    server.settled()
    looks = [descriptors_by_kind(server)]

    def stays() -> bool:
        looks.append(descriptors_by_kind(server))
        return looks[-1] == looks[-2]

    eventually(stays, "two looks agree")
    return looks[-1]


def no_more(now: dict[str, Counter[str]], before: dict[str, Counter[str]]) -> bool:
    """Whether no process has more of any kind."""
    return all(now[process] <= before[process] for process in before)


def test_a_deployment_that_moves_a_symbolic_link(server: Server, scratch: os.PathLike[str]) -> None:
    """``current`` points to the next release; HUP is enough."""
    import shutil

    releases = server.project.folder.parent
    second = releases / "second"
    shutil.copytree(server.project.folder, second)
    Project(second).set_version(2)
    current = releases / "current"
    current.symlink_to(server.project.folder)
    server.project.folder = current
    server.start(workers=1, environ={"PWD": str(current)})
    server.wait_for_version(1)
    current.unlink()
    current.symlink_to(second)
    server.reload()
    server.wait_for_version(2)
    del scratch


def _releases(server: Server) -> tuple[Path, Path]:
    """The link to the release that is started, which is the working directory, and the next release."""
    second = server.project.folder.parent / "second"
    shutil.copytree(server.project.folder, second)
    Project(second).set_version(2)
    current = server.project.folder.parent / "current"
    current.symlink_to(server.project.folder)
    return current, second


def _move(link: Path, target: Path) -> None:
    link.unlink()
    link.symlink_to(target)


@pytest.mark.parametrize("named_by", ["chdir", "manage.py", "manage.py from elsewhere"])
def test_a_link_that_only_the_command_line_names(server: Server, named_by: str) -> None:
    """systemd follows the link before it starts the server, and sets no PWD."""
    current, second = _releases(server)
    if named_by == "chdir":
        server.start("--chdir", str(current), workers=1)
    else:
        prefix = ("env", "-C", "/") if "elsewhere" in named_by else ()
        server.start(workers=1, program=(str(current / "manage.py"), "runworkers"), prefix=prefix)
    _move(current, second)
    server.reload()
    server.wait_for_version(2)
    assert Path(f"/proc/{server.worker(1)}/cwd").readlink() == (Path("/") if "elsewhere" in named_by else second)
    assert not server.events("working_directory")


def test_code_and_directory_of_two_releases_are_said(server: Server) -> None:
    current, second = _releases(server)
    _move(current, second)
    server.start(workers=1, program=(str(current / "manage.py"), "runworkers"))
    warned = server.wait_for("working_directory", level="warning")
    assert (warned["link"], warned["target"]) == (str(current), str(second))
    assert f"--chdir {current}" in warned["message"]


def test_development_reloads_when_a_file_changes(server: Server) -> None:
    server.start(reload=True, workers=1)
    eventually(lambda: any("reloader" in procfs.title(pid) for pid in server.tree()), "a reloader")

    def changed() -> bool:  # the watch may not stand yet when the first worker is ready
        server.project.set_version(2)
        try:
            server.wait_for("files_changed", timeout=3)
        except AssertionError:
            return False
        return True

    eventually(changed, "the change is seen")
    server.wait_for("reload_done")
    server.wait_for_version(2)

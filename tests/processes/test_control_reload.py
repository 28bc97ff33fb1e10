"""``reload --wait``: the verdict on each kind of bad deploy, while the old code serves on, and on a good one."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.processes.control import ask, clients_of, ctl
from tests.processes.events import eventually
from tests.processes.project import URLS, VIEWS, Project
from tests.processes.server import Server, environment
from tests.processes.test_reload import BROKEN, DIES, HANG, UNTIL_GO


def _dies(project: Project) -> None:
    project.append(URLS, DIES)


#: Each disaster, and what of its reason the last line of standard error says.
VERDICTS: list[tuple[Callable[[Project], None], str]] = [
    *((spoil, says.get("stage", "its mold ended")) for spoil, says in BROKEN),
    (_dies, "its workers die"),
]


def waiting_client(server: Server) -> subprocess.Popen[str]:
    """`reload --wait`, begun. SIGINT has its default: a test run in the background of a shell ignores it."""
    return subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-m", "djworker.control", "reload", "--wait"],
        cwd=server.project.folder,
        env=environment({}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_every_disaster_has_its_verdict(server: Server) -> None:
    """Exit code 1, and the reason on standard error; the old code serves on, and good code has exit code 0."""
    server.start(workers=1)
    for spoil, says in VERDICTS:
        server.project.restore()
        spoil(server.project)
        ended = ctl(server, "reload", "--wait")
        assert ended.code == 1, (spoil, ended)
        assert says in ended.err, (spoil, ended)
        assert "reload begins with generation" in ended.out
        told = ask(server, "status")
        assert told["last_reload"]["ok"] is False
        assert told["last_reload"]["reason"] in ended.err
        assert server.version() == 1
    server.project.restore()
    server.project.set_version(2)
    ended = ctl(server, "reload", "--wait")
    assert ended.code == 0, ended
    assert len(re.findall(r"^generation \d+ serves$", ended.out, re.MULTILINE)) == 1, "the verdict is said once"
    assert {server.version() for _ in range(4)} == {2}


def test_an_import_that_hangs_has_its_verdict(server: Server) -> None:
    server.project.settings(BOOT_TIMEOUT=30)
    server.start(workers=1, boot_timeout=None)
    server.project.settings(BOOT_TIMEOUT=6)
    assert ctl(server, "reload", "--wait").code == 0
    server.project.append(VIEWS, HANG)
    ended = ctl(server, "reload", "--wait")
    assert ended.code == 1
    assert "not loaded within boot_timeout: it hangs at" in ended.err
    assert server.version() == 1


def test_a_broken_module_comes_with_its_traceback(server: Server) -> None:
    server.start(workers=1)
    server.project.break_syntax()
    ended = ctl(server, "reload", "--wait")
    assert ended.code == 1
    assert "Traceback (most recent call last)" in ended.err
    assert "def broken(:" in ended.err
    assert ended.err.splitlines()[-1].endswith("(urlconf, testproject.shop.views.plain)")


def test_a_verdict_that_does_not_come_in_time_is_told_of(server: Server) -> None:
    server.start(workers=1)
    server.project.append(URLS, UNTIL_GO)
    mark = server.log.mark()
    ended = ctl(server, "reload", "--wait", "--timeout", "0.5")
    assert ended.code == 1, ended
    assert ended.err == "no verdict within 0.5 s; the reload goes on\n"
    queued = ctl(server, "reload")
    assert (queued.code, queued.out) == (0, "a reload is under way; one more follows\n")
    server.project.write("go", "")
    server.wait_for("reload_done", since=mark, count=2)


def test_a_reload_that_has_to_wait_gets_its_own_verdict(server: Server) -> None:
    """The generation under way is not the one that was asked for."""
    server.start(workers=1)
    server.project.append(URLS, f"open('loading', 'w').close()\n{UNTIL_GO}")
    server.hup()
    eventually(server.project.path("loading").exists, "the good code is being loaded")
    server.project.restore()
    server.project.break_syntax()
    mark = server.log.mark()
    waiting = waiting_client(server)
    server.wait_for("reload_queued", since=mark)
    server.project.write("go", "")
    _out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 1, err
    assert "def broken(:" in err


def test_a_server_that_stops_gives_no_verdict(server: Server) -> None:
    server.start(workers=1)
    server.project.append(VIEWS, HANG)
    waiting = waiting_client(server)
    server.wait_for("reload_started")
    server.term()
    _out, err = waiting.communicate(timeout=30)
    assert (waiting.returncode, err) == (1, "the server stops\n")


def test_a_new_program_of_the_arbiter_knows_how_the_last_reload_ended(server: Server) -> None:
    """Who waits meanwhile is told why no verdict comes."""
    server.start(workers=1)
    server.project.break_syntax()
    assert ctl(server, "reload", "--wait").code == 1
    server.project.restore()
    server.project.append(VIEWS, HANG)
    waiting = waiting_client(server)
    server.wait_for("reload_started", count=2)
    mark = server.send(signal.SIGUSR2)
    _out, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 1
    assert err.startswith("the arbiter replaces its own program (USR2)")
    server.wait_for("arbiter_started", since=mark)
    told = ask(server, "status")
    assert told["last_reload"]["ok"] is False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_client_that_is_gone_is_forgotten(server: Server, number: signal.Signals) -> None:
    server.start(workers=1)
    waiting = waiting_client(server)
    server.wait_for("reload_started")
    waiting.send_signal(number)
    waiting.communicate(timeout=20)
    assert waiting.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    eventually(lambda: clients_of(server) == 0, "its connection is gone")
    server.wait_for("reload_done")
    assert not server.events("control_failed")


MIGRATION = """
from django.db import migrations

class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = []
"""


def test_code_without_its_migrations_is_refused(server: Server) -> None:
    """Until the database has them; the old code serves on."""
    server.start(workers=1, check_migrations="refuse")
    server.project.write("testproject/shop/migrations/9999_late.py", MIGRATION)
    ended = ctl(server, "reload", "--wait")
    assert ended.code == 1
    assert "lacks 1 migration: shop.9999_late" in ended.err
    assert ended.err.rstrip().endswith("(migrations, database 'default')")
    assert server.get("/raw").status == 200
    migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, cwd=server.project.folder, env=environment({}), check=True)
    assert ctl(server, "reload", "--wait").code == 0


def test_missing_migrations_are_not_asked_for_where_that_is_off(server: Server) -> None:
    server.project.write("testproject/shop/migrations/9999_late.py", MIGRATION)
    server.start(workers=1, check_migrations="off")
    assert ctl(server, "reload", "--wait").code == 0
    assert not server.events("check", id="djworker.W204")


FAILS = """
from testproject.shop.views import debug
urlpatterns.insert(0, path("debug/pid", lambda request: 1 / 0))
"""


def test_a_canary_that_fails_is_taken_back(server: Server) -> None:
    """The probe asks another page; visitors get the error from one worker of three, for moments."""
    server.tracebacks_expected = True
    server.start(workers=2, canary=4)
    with server.load(clients=4) as load:
        load.wait_for_answers()
        server.project.append(URLS, FAILS)
        ended = ctl(server, "reload", "--wait")
        assert ended.code == 1, ended
        assert "its first worker is worse than the old ones: 5xx" in ended.err
        assert "is watched for 4 s" in ended.out
        server.project.restore()
        server.project.set_version(2)
        ended = ctl(server, "reload", "--wait")
        assert ended.code == 0, ended
        assert "is no worse than the old ones" in ended.out
    assert server.version() == 2


STANDS = """
from gevent.monkey import get_original
from testproject.shop.views import debug

def stands(request):
    get_original("time", "sleep")(0.4)
    return debug.pid(request)

urlpatterns.insert(0, path("debug/pid", stands))
"""


def test_a_canary_whose_hub_stalls_is_taken_back(server: Server) -> None:
    """Its answers are good, and each of them keeps all others waiting."""
    server.start(workers=2, canary=20, stall_threshold=0.25)
    with server.load(clients=4) as load:
        load.wait_for_answers()
        server.project.append(URLS, STANDS)
        ended = ctl(server, "reload", "--wait")
        assert ended.code == 1, ended
        assert "its first worker is worse than the old ones: " in ended.err
        assert "stall" in ended.err
        load.stop()
    load.assert_nothing_lost()

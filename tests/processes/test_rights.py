"""Started as root for another user: what an option names is checked, made and used with that user's rights.

Only root can become somebody else: elsewhere these tests are skipped, and the summary names them.
"""

from __future__ import annotations

import os
import pwd
import signal
import stat
from pathlib import Path

import pytest

from tests.processes.control import ask
from tests.processes.events import eventually
from tests.processes.http import Address, request
from tests.processes.project import SETTINGS, URLS, Project
from tests.processes.server import MANAGE, Server
from tests.processes.test_listening import open_to_everybody

#: As most projects start it.
PROGRAM = MANAGE
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
#: In every Linux distribution; its home and its shell are not root's.
USER = "nobody"
ENVIRONMENT = '''
import os
from django.http import JsonResponse

def environment(_request):
    names = ("HOME", "USER", "LOGNAME", "SHELL")
    ids = {"uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups()}
    return JsonResponse({**ids, **{name: os.environ.get(name) for name in names}})

def opened(request):
    """What of these processes' insides can be opened."""
    found = []
    for pid in request.GET["pids"].split(","):
        for name in ("mem", "maps", "environ", "fd/0", "fd/2"):
            try:
                os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))
                found.append(f"{pid}/{name}")
            except OSError:
                continue
    return JsonResponse({"pid": os.getpid(), "opened": found})

urlpatterns += [path("environment", environment), path("opened", opened)]
'''


def own_folder(path: Path, uid: int, gid: int) -> Path:
    path.mkdir()
    os.chown(path, uid, gid)
    return path


def owner(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def test_what_the_service_needs_is_its_own(server: Server, project: Project, scratch: Path) -> None:
    """Sockets that the proxy can open, a log that the workers can write, in root's folders as in its own."""
    project.append(URLS, ENVIRONMENT)
    account = pwd.getpwnam(USER)
    own = own_folder(scratch / "own", account.pw_uid, account.pw_gid)
    log, sockets = scratch / "x.log", [own / "sock", scratch / "sock"]
    precious = scratch / "precious"
    precious.write_text("root's")
    for number in range(os.getpid(), os.getpid() + 3000):
        (own / f"app.pid.{number}").symlink_to(precious)
    server.leaves_nothing_at = [own / "app.pid", *sockets]
    binds = [f"unix:{path}" for path in sockets]
    server.start(
        workers=1, user=USER, bind=binds, pid=own / "app.pid", access_logfile=log, prefix=open_to_everybody(scratch)
    )
    assert [owner(path) for path in sockets] == [(account.pw_uid, account.pw_gid, 0o666)] * 2
    assert (own / "app.pid").read_text() == f"{server.pid}\n"
    assert owner(own / "app.pid")[2] == 0o644
    assert precious.read_text() == "root's"
    for path in binds:
        found = request(Address(path), "/environment").json()
        assert found["uid"] == [account.pw_uid] * 3
        assert [found[name] for name in ("HOME", "USER", "LOGNAME", "SHELL")] == [
            account.pw_dir,
            USER,
            USER,
            account.pw_shell,
        ]
    eventually(lambda: log.read_text().count("GET /environment") == 2, "both requests are in the log")
    _rotate(server, log, binds[0])
    server.send(signal.SIGUSR2)  # the next program removes what the first one has made
    server.wait_for("arbiter_started", count=2)


def test_lines_of_a_killed_worker_are_written_with_its_rights(server: Server, project: Project, scratch: Path) -> None:
    """Root writes them for it, and follows no link of the service's to do so."""
    account = pwd.getpwnam(USER)
    own = own_folder(scratch / "own", account.pw_uid, account.pw_gid)
    precious = scratch / "precious"
    precious.write_text("root's\n")
    project.append(URLS, "import time\nurlpatterns += [path('sleeps', lambda request: time.sleep(60))]")
    log = own / "x.log"
    server.start(workers=1, user=USER, access_logfile=log, probe="off", prefix=open_to_everybody(scratch))
    server.in_background("/sleeps")
    eventually(lambda: ask(server, "requests")["requests"], "it runs")
    os.kill(server.worker(), signal.SIGKILL)
    eventually(lambda: "GET /sleeps" in log.read_text(), "it has its line")
    assert owner(log)[0] == account.pw_uid
    server.wait_for("worker_ready", count=2)
    server.in_background("/sleeps")
    eventually(lambda: ask(server, "requests")["requests"], "it runs")
    log.unlink()
    log.symlink_to(precious)
    mark = server.log.mark()
    os.kill(server.worker(), signal.SIGKILL)
    server.wait_for("access_log_lost", since=mark)
    assert precious.read_text() == "root's\n"
    log.unlink()


def _rotate(server: Server, log: Path, address: str) -> None:
    """As logrotate does without ``create``, and with one that makes a file of root's."""
    for made in (False, True):
        log.rename(log.with_suffix(f".{made}"))
        if made:
            log.touch(mode=0o640)
        mark = server.send(signal.SIGUSR1)
        server.wait_for("logs_reopened", since=mark)
        eventually(lambda: request(Address(address), "/raw").status == 200 and log.read_text(), "the new file is used")
        assert owner(log)[0] == pwd.getpwnam(USER).pw_uid
    assert not server.events("access_log_lost")


def test_a_number_without_an_account_has_its_own_group_and_no_home(
    server: Server, project: Project, scratch: Path
) -> None:
    project.append(URLS, ENVIRONMENT)
    server.start(workers=1, user="54321", prefix=open_to_everybody(scratch))
    found = server.get("/environment").json()
    assert (found["uid"], found["gid"], found["groups"]) == ([54321] * 3, [54321] * 3, [54321])
    assert [found[name] for name in ("HOME", "USER", "LOGNAME", "SHELL")] == ["/", "54321", "54321", "/bin/sh"]


def test_a_worker_cannot_look_into_another_process_of_the_service(
    server: Server, project: Project, scratch: Path
) -> None:
    """They have the same user. But who gave up root's rights is closed to its equals: prctl(2), PR_SET_DUMPABLE."""
    project.append(URLS, ENVIRONMENT)
    server.start(workers=2, user=USER, prefix=open_to_everybody(scratch))
    pids = [*server.ready(), server.mold(), server.pid]
    found = server.get(f"/opened?pids={','.join(map(str, pids))}").json()
    assert [name for name in found["opened"] if not name.startswith(f"{found['pid']}/")] == []
    assert found["opened"], "its own"


@pytest.mark.parametrize(
    "options, said",
    [
        ({"group": "nogroup"}, "djworker.E013: group = 'nogroup'"),
        ({"user": str(2**32 - 1)}, "djworker.E005: user = '4294967295'"),
        ({"user": USER, "access_logfile": "{closed}/x.log"}, "djworker.E008: access_log = '{closed}/x.log'"),
        ({"user": USER, "access_logfile": "{link}/x.log"}, "users other than root decide where that path leads"),
        ({"user": USER, "pid": "{link}/app.pid"}, "users other than root decide where that path leads"),
        ({"user": USER, "bind": "unix:{link}/sock"}, "users other than root decide where that path leads"),
    ],
)
def test_what_the_service_could_not_use_is_refused(
    server: Server, scratch: Path, options: dict[str, str], said: str
) -> None:
    closed, account = scratch / "closed", pwd.getpwnam(USER)
    closed.mkdir(mode=0o700)
    link = own_folder(scratch / "own", account.pw_uid, account.pw_gid) / "link"
    link.symlink_to(closed)
    places = {"closed": str(closed), "link": str(link)}
    server.launch(**{name: value.format_map(places) for name, value in options.items()})
    assert server.wait() == 2
    assert server.log.wait_for_end()
    text = "\n".join(str(event.get("text") or event.get("message")) for event in server.log.all())
    assert said.format_map(places) in text
    assert list(closed.iterdir()) == []


def test_a_root_that_cannot_become_the_user_is_told_what_it_lacks(server: Server, scratch: Path) -> None:
    """As in a container from which these capabilities were taken."""
    prefix = ["setpriv", "--bounding-set=-setuid,-setgid", "--inh-caps=-all"]
    server.launch(user=USER, access_logfile=scratch / "x.log", pid=scratch / "pid", prefix=prefix)
    assert server.wait() == 2
    assert server.log.wait_for_end()
    (refusal,) = server.events("config_error", id="E006")
    assert refusal["message"].startswith("djworker.E006: user = 'nobody'")
    assert "CAP_SETUID" in refusal["message"]


def test_the_check_loads_the_project_as_the_service(server: Server, project: Project, scratch: Path) -> None:
    project.append(SETTINGS, 'import os; os.write(1, f"loaded by {os.geteuid()}\\n".encode())')
    server.launch("--check", user=USER, prefix=open_to_everybody(scratch))
    assert server.wait() == 0
    assert server.output.read_text().split("\n")[-2] == f"loaded by {pwd.getpwnam(USER).pw_uid}"


def test_a_module_in_the_projects_folder_is_not_loaded_by_root(server: Server, project: Project, scratch: Path) -> None:
    """The folder may be the service's, and the mold is root until it has read its own modules."""
    project.write("setproctitle.py", "import os\nos.write(1, f'{os.geteuid()}!'.encode())\nsetproctitle = len\n")
    server.start(workers=1, user=USER, prefix=open_to_everybody(scratch))
    server.reload()
    assert "0!" not in server.output.read_text()

"""Where it listens and as whom it runs: unix sockets, passed sockets, systemd, users, other platforms."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import djworker
from tests.processes import procfs
from tests.processes.http import Address, request
from tests.processes.server import MANAGE, Server

#: As most projects start it.
PROGRAM = MANAGE
ROOT = os.geteuid() == 0


def test_a_unix_socket_has_its_mode_and_survives_a_reload(server: Server) -> None:
    server.start(bind=f"unix:{server.scratch}/sock", umask="0o077", socket_mode="660")
    mode = (server.scratch / "sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert mode & 0o777 == 0o660
    with server.load(clients=4) as load:
        load.wait_for_answers()
        server.project.set_version(2)
        server.reload()
        load.wait_for_version(2)
    load.assert_nothing_lost()


def test_several_addresses_are_served_at_once(server: Server) -> None:
    server.start(bind=["127.0.0.1:0", "[::1]:0", f"unix:{server.scratch}/sock"])
    addresses = [Address(event["address"]) for event in server.events("listening")]
    assert [request(address, "/raw").status for address in addresses] == [200] * 3


def tcp_address(sock: socket.socket) -> Address:
    host, port = sock.getsockname()
    return Address(f"http://{host}:{port}")


def test_a_descriptor_from_outside(server: Server) -> None:
    """``fd://N``: whoever made the socket keeps it, and may start us again on it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = tcp_address(listener)
        inode = str(os.fstat(listener.fileno()).st_ino)
        os.set_inheritable(listener.fileno(), True)
        server.start(bind=f"fd://{listener.fileno()}", pass_fds=[listener.fileno()])
        assert request(address, "/raw").status == 200
        server.reload()
        assert request(address, "/raw").status == 200
        assert server.stop() == 0
    assert inode not in procfs.listeners(address.port)


def test_sockets_of_systemd_are_served(server: Server) -> None:
    """systemd's protocol: LISTEN_FDS sockets from descriptor 3 on, for the process that LISTEN_PID names."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        server.start(inherit=[first, second], environ={"LISTEN_FDS": "2"})
        addresses = [tcp_address(sock) for sock in (first, second)]
        assert {event["address"] for event in server.events("listening")} == {address.text for address in addresses}
        assert [request(address, "/raw").status for address in addresses] == [200, 200]
        server.reload()
        assert [request(address, "/raw").status for address in addresses] == [200, 200]
        assert server.stop() == 0


class Systemd:
    """The socket on which a service reports."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._sock.settimeout(30)
        self.said: list[str] = []

    def wait_for(self, word: str) -> str:
        """Read on until it is said."""
        while True:
            self.said.append(self._sock.recv(4096).decode())
            if self.said[-1].startswith(word):
                return self.said[-1]

    def is_silent_for(self, seconds: float, at_most: int = 40) -> bool:
        """Whether nothing is said for so long before *at_most* more words are said."""
        self._sock.settimeout(seconds)
        try:
            for _ in range(at_most):
                self.said.append(self._sock.recv(4096).decode())
        except TimeoutError:
            return True
        finally:
            self._sock.settimeout(30)
        return False

    def rest(self) -> list[str]:
        """What else there is."""
        self._sock.settimeout(0)
        try:
            while True:
                self.said.append(self._sock.recv(4096).decode())
        except BlockingIOError:
            return self.said
        finally:
            self._sock.settimeout(30)

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def systemd(scratch: Path) -> Iterator[Systemd]:
    made = Systemd(scratch / "notify")
    yield made
    made.close()


def without_status(said: list[str]) -> list[str]:
    return [text.split("\n")[0] for text in said if not text.startswith(("STATUS=", "WATCHDOG="))]


def test_what_systemd_is_told(server: Server, systemd: Systemd, scratch: Path) -> None:
    server.launch(environ={"NOTIFY_SOCKET": str(scratch / "notify"), "WATCHDOG_USEC": "400000"})
    systemd.wait_for("READY=1")
    server.wait_for("worker_ready", timeout=1)  # it was said before, at most it is not read yet
    assert not any(text.startswith("WATCHDOG") for text in systemd.said[:-1])
    for _ in range(3):
        systemd.wait_for("WATCHDOG=1")
    server.wait_for("worker_ready", count=2)
    server.hup()
    assert "MONOTONIC_USEC=" in systemd.wait_for("RELOADING=1")
    systemd.wait_for("READY=1")
    server.wait_for("reload_done")
    server.project.break_syntax()
    server.hup()
    systemd.wait_for("RELOADING=1")
    systemd.wait_for("READY=1")
    server.wait_for("reload_failed")
    server.stop()
    said = systemd.rest()
    assert without_status(said) == ["READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]
    assert "STATUS=2 of 2 workers ready, generation 2" in said


def test_systemd_is_told_nothing_that_is_not_true(server: Server, systemd: Systemd, scratch: Path) -> None:
    server.project.break_syntax()
    server.launch(environ={"NOTIFY_SOCKET": str(scratch / "notify"), "WATCHDOG_USEC": "400000"})
    assert server.wait() == 3
    assert without_status(systemd.rest()) == []


def test_the_watchdog_is_not_petted_while_the_only_hub_is_blocked(
    server: Server, systemd: Systemd, scratch: Path
) -> None:
    server.launch(environ={"NOTIFY_SOCKET": str(scratch / "notify"), "WATCHDOG_USEC": "400000"}, workers=1, timeout=0)
    systemd.wait_for("WATCHDOG=1")
    gate = scratch / "gate"
    os.mkfifo(gate)
    blocked = server.in_background(f"/drill/gate?path={gate}")
    assert systemd.is_silent_for(1.5), "the arbiter pets it five times a second while a hub turns"
    gate.write_text("go on")
    systemd.wait_for("WATCHDOG=1")
    assert blocked.answer().status == 200


def closed_to_others(path: Path) -> Path | None:
    """The outermost folder above *path* that not everybody may enter."""
    return next((folder for folder in reversed(path.parents) if not folder.stat().st_mode & stat.S_IXOTH), None)


def open_to_everybody(scratch: Path) -> list[str]:
    """A prefix that makes the interpreter and this checkout readable for every user, in a mount namespace of its own.

    Where they are below root's home, which is closed, that home is covered with another folder. On most machines nothing has
    to be done.
    """
    needed = dict.fromkeys(Path(name).resolve() for name in (sys.base_prefix, sys.prefix, procfs.__file__))
    needed = {path.parents[2] if path.is_file() else path: closed_to_others(path) for path in needed}
    steps = []
    for number, path in enumerate(path for path, closed in needed.items() if closed):
        (scratch / f"mount{number}").mkdir()
        steps.append(f"mount --bind {path} {scratch}/mount{number}")
    steps += [
        f"mount -t tmpfs -o mode=755 none {closed}" for closed in {closed for closed in needed.values() if closed}
    ]
    for number, path in enumerate(path for path, closed in needed.items() if closed):
        steps += [f"mkdir -p {path}", f"mount --bind {scratch}/mount{number} {path}"]
    return ["unshare", "--mount", "sh", "-c", " && ".join([*steps, 'exec "$@"']), "sh"] if steps else []


@pytest.mark.skipif(not ROOT, reason="only root can become somebody else")
def test_workers_run_as_another_user(server: Server, scratch: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    group = grp.getgrgid(nobody.pw_gid).gr_name
    server.start(user="nobody", group=group, umask="0o027", prefix=open_to_everybody(scratch))
    found = server.get("/drill/account").json()
    assert found == {"uid": nobody.pw_uid, "gid": nobody.pw_gid, "groups": [nobody.pw_gid], "umask": 0o027}
    for pid in (server.mold(), *server.ready()):
        assert set(procfs.status(pid)["Uid"].split()) == {str(nobody.pw_uid)}
    assert procfs.status(server.pid)["Uid"].split()[0] == "0"
    server.reload()
    mark = server.kill(server.ready()[0])
    server.wait_for("worker_ready", since=mark)
    assert server.get("/drill/account").json() == found


@pytest.mark.skipif(not ROOT, reason="only root can become somebody else")
def test_nobody_outlives_an_arbiter_that_is_root(server: Server, scratch: Path) -> None:
    """A change of user clears the parent-death signal, so it must be set after it."""
    server.start(user="nobody", prefix=open_to_everybody(scratch))
    server.running("/debug/spin?s=600")
    server.kill_arbiter()
    assert server.log.wait_for_end()


@pytest.mark.skipif(not ROOT, reason="only root can become somebody else")
def test_another_user_that_may_not_read_the_project(server: Server) -> None:
    """The log says what is closed, not only that nothing works."""
    server.project.folder.chmod(0o700)
    server.launch(user="nobody")
    assert server.wait() == 3
    failed = server.wait_for("mold_failed")
    assert failed["stage"] == "start"
    assert "user nobody may not read " in failed["error"]


@pytest.mark.skipif(not ROOT, reason="only root can become somebody else")
def test_a_closed_installation_is_told_of_also_beside_an_agent_of_the_interpreter(
    server: Server, scratch: Path
) -> None:
    """Agents run as the user of the workers, before the mold: Python itself would say that there is no such module."""
    package = Path(djworker.__file__).parent
    shutil.copytree(package, scratch / "closed" / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    (scratch / "agent").mkdir()
    (scratch / "agent" / "sitecustomize.py").touch()
    (scratch / "closed").chmod(0o700)
    environ = {"PYTHONPATH": f"{scratch}/closed:{scratch}/agent"}
    server.launch(user="nobody", environ=environ, prefix=open_to_everybody(scratch))
    failed = server.wait_for("mold_failed")
    assert f"user nobody may not read {scratch}/closed" in failed["error"]
    assert server.wait() == 3
    server.project.folder.chmod(0o755)


PORTABLE = {"_DJWORKER_NO_SUBREAPER": "1"}


def test_without_a_subreaper(server: Server) -> None:
    """As on macOS: a mold of its own for each worker. Slower, and nothing else is different."""
    server.start(environ=PORTABLE, workers=1)
    with server.load(clients=2) as load:
        server.project.set_version(2)
        mark = server.reload()
        load.wait_for_version(2)
        server.project.break_syntax()
        failed = server.hup()
        server.wait_for("reload_failed", since=failed)
        server.project.restore()
    load.assert_nothing_lost()
    assert server.fewest_ready(mark) == 1
    mark = server.kill(server.ready()[0])
    server.wait_for("worker_ready", since=mark)
    assert server.stop() == 0


def test_without_a_subreaper_nobody_outlives_the_arbiter(server: Server) -> None:
    server.start(environ=PORTABLE)
    server.running("/debug/spin?s=600")
    server.kill_arbiter()
    assert server.log.wait_for_end()

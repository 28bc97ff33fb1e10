"""Whom the service runs as, and what is done with its rights. Children are real and short-lived."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from djworker import accounts
from djworker.accounts import Account
from djworker.arbiter.listeners import Listener, ListenError, open_listeners
from djworker.arbiter.logfiles import LogFileError, hand_over
from djworker.arbiter.pidfile import Pidfile, PidfileError
from djworker.conf.address import Address
from djworker.log.sink import FileSink

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
#: What every test here gives to the service.
SERVICE = Account(54321, 54321, (54321,), "54321")


def run(code: str) -> str:
    """Python in a process of its own: most of this cannot be undone."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Outside pytest's own folders, which other users may not enter."""
    with tempfile.TemporaryDirectory(prefix="dj-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture
def own(folder: Path) -> Path:
    """A folder of the service's."""
    path = folder / "own"
    path.mkdir()
    os.chown(path, SERVICE.uid, SERVICE.gid)
    return path


@needs_root
@pytest.mark.parametrize(
    "user, group", [("nobody", None), ("65534", None), ("nobody", "0"), ("54321", "54321"), ("54321", None)]
)
def test_rights_are_dropped_for_good(user: str, group: str | None) -> None:
    code = f"""
import os
from djworker import accounts
accounts.become(accounts.find({user!r}, {group!r}))
print(os.getresuid(), os.getresgid(), os.getgroups())
try:
    os.setuid(0)
except PermissionError:
    pass
else:
    raise SystemExit("root again")
"""
    uid = int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid
    gid = int(group) if group is not None else 54321 if uid == 54321 else pwd.getpwuid(uid).pw_gid
    uids, gids = (uid,) * 3, (gid,) * 3
    assert run(code).startswith(f"{uids} {gids} ")


@needs_root
def test_the_groups_of_root_are_left_behind() -> None:
    code = """
import os
from djworker import accounts
os.setgroups([0, 4, 27])
accounts.become(accounts.find("nobody", None))
assert not {0, 4, 27} & set(os.getgroups()), os.getgroups()
"""
    run(code)


def test_nobody_in_particular_changes_nothing() -> None:
    before = os.getresuid(), os.getresgid(), os.getgroups()
    accounts.become(accounts.find(None, None))
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


@pytest.mark.parametrize("user, group", [("no-such-user", None), (None, "no-such-group")])
def test_unknown_names_are_refused(user: str | None, group: str | None) -> None:
    with pytest.raises(KeyError):
        accounts.find(user, group)


@pytest.mark.parametrize("number", [str(2**32 - 1), str(2**32), "9" * 30])
def test_a_number_that_no_process_can_have_is_no_account(number: str) -> None:
    """``(uid_t) -1`` means "leave it as it is": the workers would stay root."""
    for user, group in ((number, None), (None, number)):
        with pytest.raises(KeyError):
            accounts.find(user, group)


def test_the_environment_is_the_accounts() -> None:
    entry = pwd.getpwnam("nobody")
    expected = {"HOME": entry.pw_dir, "USER": "nobody", "LOGNAME": "nobody", "SHELL": entry.pw_shell}
    assert accounts.find("nobody", None).environ == expected
    assert accounts.find("54321", None).environ == {
        "HOME": "/", "USER": "54321", "LOGNAME": "54321", "SHELL": "/bin/sh",
    }  # fmt: skip
    assert accounts.find(None, None).environ == {}


@needs_root
def test_rights_are_borrowed_and_given_back() -> None:
    code = """
import ctypes, os
from djworker import accounts
libc = ctypes.CDLL(None)
libc.prctl(1, 15, 0, 0, 0)
os.setgroups([0, 4])
before = os.getresuid(), os.getresgid(), os.getgroups()
with accounts.acting_as(accounts.find("54321", None)):
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (54321, 54321, [54321])
    try:
        open("/etc/shadow")
    except PermissionError:
        print("closed")
assert (os.getresuid(), os.getresgid(), os.getgroups()) == before
asked = ctypes.c_int()
libc.prctl(2, ctypes.byref(asked), 0, 0, 0)
assert asked.value == 15, "the supervisor's signal at its death"
"""
    assert run(code) == "closed"


# -- paths ------------------------------------------------------------------------------------------------------------


@needs_root
def test_a_path_is_out_of_reach_where_root_alone_decides(folder: Path, own: Path) -> None:
    (folder / "deep").mkdir(mode=0o755)
    (folder / "link").symlink_to("deep")
    (own / "link").symlink_to(folder / "deep")
    (folder / "through").symlink_to(own / "link")
    (folder / "loop").symlink_to("loop")
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)
    (folder / "group").mkdir()
    os.chown(folder / "group", 0, SERVICE.gid)
    (folder / "group").chmod(0o775)
    (folder / "other-group").mkdir()
    os.chown(folder / "other-group", 0, 4)
    (folder / "other-group").chmod(0o775)
    within = {path.name: accounts.out_of_reach(str(path), SERVICE) for path in sorted(folder.iterdir())}
    assert within == {
        "deep": True, "group": False, "link": True, "loop": False, "open": False, "other-group": True,
        "own": False, "through": False,
    }  # fmt: skip
    assert accounts.out_of_reach(f"{folder}/deep/../link/./", SERVICE)
    assert not accounts.out_of_reach(f"{own}/../deep", SERVICE), "a name on the way is the service's"


# -- the pid file -----------------------------------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("account", [None, SERVICE])
def test_links_that_the_service_has_put_where_root_writes_lead_nowhere(
    folder: Path, own: Path, account: Account | None
) -> None:
    precious = folder / "precious"
    precious.write_text("root's")
    for name in ("pid", *(f"pid.{number}" for number in range(os.getpid() - 50, os.getpid() + 50))):
        (own / name).symlink_to(precious)
    Pidfile(str(own / "pid"), account).create()
    assert precious.read_text() == "root's"
    assert (own / "pid").read_text() == f"{os.getpid()}\n"
    assert not (own / "pid").is_symlink()


@needs_root
def test_the_service_cannot_move_the_pid_file_elsewhere(folder: Path, own: Path) -> None:
    """Its own folder becomes a link to root's, where a file of that name is."""
    (folder / "etc").mkdir()
    (folder / "etc" / "pid").write_text("precious")
    (own / "run").symlink_to(folder / "etc")
    with pytest.raises(PidfileError, match="users other than root decide"):
        Pidfile(str(own / "run" / "pid"), SERVICE).create()
    assert (folder / "etc" / "pid").read_text() == "precious"
    assert sorted(path.name for path in (folder / "etc").iterdir()) == ["pid"]


@needs_root
@pytest.mark.parametrize("umask", [0, 0o077])
def test_the_pid_file_can_be_read_by_everybody(folder: Path, umask: int) -> None:
    before = os.umask(umask)
    pidfile = Pidfile(str(folder / "pid"), SERVICE)
    pidfile.create()
    os.umask(before)
    found = (folder / "pid").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o644, 0)
    pidfile.remove()
    assert list(folder.iterdir()) == []


@needs_root
def test_a_pipe_in_the_place_of_the_pid_file_keeps_nobody_waiting(own: Path) -> None:
    os.mkfifo(own / "pid")
    Pidfile(str(own / "pid"), SERVICE).create()
    assert (own / "pid").read_text() == f"{os.getpid()}\n"


# -- the access log ---------------------------------------------------------------------------------------------------


def opens(path: Path) -> bool:
    with accounts.acting_as(SERVICE):
        return os.access(path, os.W_OK, effective_ids=True)


@needs_root
def test_a_log_in_a_folder_of_roots_is_made_for_the_service(folder: Path) -> None:
    hand_over(str(folder / "x.log"), SERVICE)
    assert opens(folder / "x.log")
    assert stat.S_IMODE((folder / "x.log").stat().st_mode) & 0o007 == 0


@needs_root
def test_a_log_that_rotation_has_made_as_root_is_given_to_the_service(folder: Path) -> None:
    (folder / "x.log").write_text("old\n")
    (folder / "x.log").chmod(0o640)
    hand_over(str(folder / "x.log"), SERVICE)
    assert opens(folder / "x.log")
    assert (folder / "x.log").read_text() == "old\n"


@needs_root
def test_a_log_in_its_own_folder_is_made_by_the_service(own: Path) -> None:
    hand_over(str(own / "x.log"), SERVICE)
    assert (own / "x.log").stat().st_uid == SERVICE.uid


@needs_root
@pytest.mark.parametrize("trick", ["symlink", "hard link", "dangling", "folder"])
def test_root_gives_away_nothing_that_the_service_points_at(folder: Path, own: Path, trick: str) -> None:
    precious, log = folder / "precious", own / "x.log"
    precious.write_text("root's")
    precious.chmod(0o600)
    if trick == "hard link":
        log.hardlink_to(precious)
    elif trick == "folder":
        (folder / "closed").mkdir(mode=0o700)
        (own / "sub").symlink_to(folder / "closed")
        log = own / "sub" / "x.log"
    else:
        log.symlink_to(precious if trick == "symlink" else folder / "new")
    with pytest.raises(LogFileError, match="users other than root decide"):
        hand_over(str(log), SERVICE)
    assert (precious.stat().st_uid, stat.S_IMODE(precious.stat().st_mode)) == (0, 0o600)
    assert sorted(path.name for path in folder.iterdir() if path.name not in ("own", "closed")) == ["precious"]
    if trick == "folder":
        assert list((folder / "closed").iterdir()) == []


@needs_root
def test_a_folder_that_the_service_may_not_enter_is_named(folder: Path) -> None:
    (folder / "closed").mkdir(mode=0o700)
    with pytest.raises(LogFileError, match="closed to it; give that user"):
        hand_over(str(folder / "closed" / "x.log"), SERVICE)


@needs_root
def test_workers_that_are_root_follow_no_link_of_another_user_to_a_log(folder: Path, own: Path) -> None:
    (own / "x.log").symlink_to(folder / "precious")
    (folder / "link.log").symlink_to(folder / "wanted")
    with pytest.raises(OSError, match="symbolic links"):
        FileSink(str(own / "x.log"))
    FileSink(str(folder / "link.log")).close()
    assert sorted(path.name for path in folder.iterdir()) == ["link.log", "own", "wanted"]


# -- unix sockets -----------------------------------------------------------------------------------------------------


def listen(path: Path) -> Listener:
    (listener,) = open_listeners([Address.parse(f"unix:{path}")], 10, 0o660, SERVICE)
    return listener


@needs_root
@pytest.mark.parametrize("place", ["own", "roots"])
def test_a_socket_is_the_services_wherever_it_is(folder: Path, own: Path, place: str) -> None:
    path = (own if place == "own" else folder) / "s"
    for _ in range(2):  # the second time over the first one's file
        listener = listen(path)
        found = path.lstat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (SERVICE.uid, SERVICE.gid, 0o660)
        listener.sock.close()  # as if it had been killed
    listener = listen(path)
    listener.close()
    assert not path.exists()


@needs_root
def test_the_service_cannot_have_a_socket_made_or_removed_elsewhere(folder: Path, own: Path) -> None:
    (folder / "etc").mkdir()
    (own / "run").symlink_to(folder / "etc")
    with pytest.raises(ListenError, match="users other than root decide"):
        listen(own / "run" / "s")
    assert list((folder / "etc").iterdir()) == []

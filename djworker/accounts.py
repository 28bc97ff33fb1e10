"""The account that the mold and the workers run as, and doing things with that account's rights while still root.

What an option names is used by the mold and the workers. So root looks at it, and makes it, as they would: a check that
root passes says nothing of them, and a file that root makes in a folder of theirs may be somewhere else entirely, because the
owner of a folder decides what a name in it leads to.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from djworker import process

#: ``(uid_t) -1`` means "leave it as it is" to setuid(2), so it is no user.
HIGHEST_ID: Final = 2**32 - 2
#: As many symbolic links in one path as the kernel follows, path_resolution(7).
_MOST_LINKS: Final = 40


@dataclass(frozen=True, slots=True)
class Account:
    """The rights of a user: ids, supplementary groups, and what the environment says of it."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    environ: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} ({self.uid}:{self.gid})"


def find(user: str | None, group: str | None) -> Account:
    """The account that the options ``user`` and ``group`` mean; None stands for what this process is.

    A number without an account, which containers like to run as, is its own group and has no others: never root's.

    Raises:
        KeyError: no such user or group.
    """
    entry = _entry(user) if user is not None else None
    uid = entry.pw_uid if entry is not None else int(user) if user is not None else os.geteuid()
    if group is not None:
        gid = group_id(group)
    elif entry is not None:
        gid = entry.pw_gid
    else:
        gid = uid if user is not None else os.getegid()
    name = entry.pw_name if entry is not None else str(uid)
    groups = os.getgrouplist(name, gid) if entry is not None else [gid]
    return Account(uid, gid, tuple(groups), name, _environ(entry, name) if user is not None else {})


def service_account(user: str | None, group: str | None) -> Account | None:
    """The account that root is to work for; None where this process is not root, or stays what it is, or there is none such."""
    if user is None or os.geteuid() != 0:
        return None
    try:
        found = find(user, group)
    except (KeyError, ValueError):
        return None
    return found if found.uid else None


def user_id(name: str) -> int:
    """The number of a user that is given by name or number.

    Raises:
        KeyError: there is none of that name, or no process can have that number.
    """
    return _number(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid


def group_id(name: str) -> int:
    """The number of a group that is given by name or number.

    Raises:
        KeyError: there is none of that name, or no process can have that number.
    """
    return _number(name) if name.isdecimal() else grp.getgrnam(name).gr_gid


def _number(text: str) -> int:
    if int(text) > HIGHEST_ID:
        raise KeyError(text)
    return int(text)


def _entry(user: str) -> pwd.struct_passwd | None:
    """None for a number without an account."""
    if not user.isdecimal():
        return pwd.getpwnam(user)
    try:
        return pwd.getpwuid(_number(user))
    except KeyError:
        if int(user) > HIGHEST_ID:
            raise
        return None


def _environ(entry: pwd.struct_passwd | None, name: str) -> dict[str, str]:
    """What login(1) sets. Without an account there is no home, and root's is closed: ``/``, as in containers."""
    home, shell = (entry.pw_dir, entry.pw_shell) if entry is not None else ("/", "")
    return {"HOME": home or "/", "USER": name, "LOGNAME": name, "SHELL": shell or "/bin/sh"}


def become(account: Account) -> None:
    """Be *account* for good, supplementary groups and environment included.

    Raises:
        PermissionError: this process may not.
    """
    uid, gid = account.uid, account.gid
    if (uid, uid, gid, gid) != (os.getuid(), os.geteuid(), os.getgid(), os.getegid()):
        # Even where the group stays: who is root no more must not keep root's supplementary groups.
        os.setgroups(account.groups)
        os.setgid(gid)
        os.setuid(uid)
    os.environ.update(account.environ)


@contextmanager
def acting_as(account: Account | None) -> Iterator[None]:
    """Have the rights of *account* within, on files above all; None changes nothing. For root, single-threaded."""
    if account is None:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    with process.keeping_parent_death_signal():
        try:
            os.setgroups(account.groups)
            os.setegid(account.gid)
            os.seteuid(account.uid)
            yield
        finally:
            os.seteuid(0)
            os.setegid(gid)
            os.setgroups(groups)


def refusal(account: Account) -> str:
    """Why this root cannot become *account*, as in a container without the capabilities; empty where it can."""
    try:
        with acting_as(account):
            return ""
    except OSError as error:
        return error.strerror or str(error)


@contextmanager
def acting_in(directory: str, account: Account | None) -> Iterator[bool]:
    """Have the rights with which a name in *directory* may safely be made or removed.

    Where the account may write, those of the account: whatever it has put behind the names there, it gains nothing. Elsewhere
    root's, if only root decides where the path leads.

    Args:
        directory: absolute.
        account: the service's; None changes nothing.

    Yields:
        Whether these are the rights of the account.

    Raises:
        PermissionError: neither.
    """
    with acting_as(account):
        own = account is None or os.access(directory, os.W_OK | os.X_OK, effective_ids=True)
    if not own and account is not None and not out_of_reach(directory, account):
        reason = f"{account} may not write there, and users other than root decide where that path leads"
        reason += "; give that user the folder"
        raise PermissionError(reason)
    with acting_as(account if own else None):
        yield own and account is not None


def out_of_reach(path: str, account: Account) -> bool:
    """Whether only root decides where *path* leads: no folder and no link on the way is another's, or open to *account*."""
    here, links = "/", 0
    ahead = list(reversed(path.split("/")))
    while ahead:
        name = ahead.pop()
        if name == "..":
            here = os.path.dirname(here)
            continue
        step = os.path.join(here, name) if name not in ("", ".") else here
        info = os.lstat(step)
        if not _is_roots(info, account):
            return False
        if not stat.S_ISLNK(info.st_mode):
            here = step
            continue
        links += 1
        if links > _MOST_LINKS:
            return False
        target = os.readlink(step)
        here = "/" if target.startswith("/") else here
        ahead += reversed(target.split("/"))
    return True


def _is_roots(info: os.stat_result, account: Account) -> bool:
    if info.st_uid != 0:
        return False
    if stat.S_ISLNK(info.st_mode):  # a link itself cannot be written to; the folder that it is in has been looked at
        return True
    if info.st_mode & stat.S_IWOTH and not info.st_mode & stat.S_ISVTX:
        return False
    return not info.st_mode & stat.S_IWGRP or info.st_gid not in {account.gid, *account.groups}

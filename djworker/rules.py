"""Rules that look at more than one option, and rules that look at this machine.

Each rule yields findings; ``resolve`` adds the value and where it came from.
"""

from __future__ import annotations

import grp
import importlib.util
import os
import pwd
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from djworker.accesslog import ATOMS, stray_percent, unknown_atoms
from djworker.address import Address, Family
from djworker.conf import Config
from djworker.problems import Level


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found out about one option."""

    id: str
    option: str
    message: str
    hint: str
    level: Level = "error"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule and the options that it reads; it is left out where one of these is unreadable."""

    reads: frozenset[str]
    find: Callable[[Config], Iterator[Finding]]


def _jitter(config: Config) -> Iterator[Finding]:
    if config.max_requests_jitter and not config.max_requests:
        message = "has no effect without max_requests"
        yield Finding("W001", "max_requests_jitter", message, "set max_requests as well", "warning")
    elif config.max_requests_jitter > config.max_requests:
        message = f"more than max_requests ({config.max_requests})"
        yield Finding("W002", "max_requests_jitter", message, "a tenth to a half of it spreads well", "warning")


def _atoms(config: Config) -> Iterator[Finding]:
    if unknown := unknown_atoms(config.access_log_format):
        hint = f"give some of {' '.join(f'%({name})s' for name in ATOMS)}"
        yield Finding("E004", "access_log_format", f"unknown atom {', '.join(unknown)}", hint)
    elif stray_percent(config.access_log_format):
        yield Finding("E004", "access_log_format", "a lone per cent sign", "write it as %%")


def _account(config: Config) -> Iterator[Finding]:
    for name, value, exists, own in (
        ("user", config.user, user_id, os.geteuid()),
        ("group", config.group, group_id, os.getegid()),
    ):
        if value is None:
            continue
        number = exists(value)
        if number is None:
            yield Finding("E005", name, f"there is no such {name} here", "create it, or name another")
        elif os.geteuid() != 0 and number != own:
            yield Finding("E006", name, f"only root can change the {name}", "start as root, or leave it out")


def user_id(name: str) -> int | None:
    """Return the number of a user given by name or number, None where there is none of that name."""
    try:
        return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def group_id(name: str) -> int | None:
    """Return the number of a group given by name or number, None where there is none of that name."""
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _descriptors(config: Config) -> Iterator[Finding]:
    for address in map(Address.parse, config.bind):
        if address.family is Family.FD and (complaint := _descriptor(address.fd)):
            hint = "pass a listening socket, as systemd's socket units do"
            yield Finding("E007", "bind", f"{address}: {complaint}", hint)


def _descriptor(fd: int) -> str:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return "that descriptor is no socket"
        with socket.socket(fileno=os.dup(fd)) as listener:
            accepts = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        return "that descriptor is not open"
    return "" if accepts else "that socket does not listen"


def _files(config: Config) -> Iterator[Finding]:
    for name, path in (("pid", config.pid), ("access_log", config.access_log)):
        if path is not None and path != "-" and (complaint := _unwritable(os.path.abspath(path))):
            yield Finding("E008", name, *complaint)


def _unwritable(path: str) -> tuple[str, str] | None:
    directory = os.path.dirname(path)
    if os.path.isdir(path):
        return "that is a directory", "name a file"
    if not os.path.isdir(directory):
        return f"there is no directory {directory}", "create it"
    if not os.access(path if os.path.exists(path) else directory, os.W_OK):
        return "no permission to write there", "choose another place, or change the permissions"
    return None


def _watchfiles(config: Config) -> Iterator[Finding]:
    if config.reload and importlib.util.find_spec("watchfiles") is None:
        yield Finding("E009", "reload", "watchfiles is not installed", "pip install watchfiles")


PURE = (
    Rule(frozenset({"max_requests", "max_requests_jitter"}), _jitter),
    Rule(frozenset({"access_log_format"}), _atoms),
)
# True on one machine and false on another: asked where the server starts, and neither by "manage.py check" (in a build
# without that user) nor on a reload (the mold is not root any more).
MACHINE = (
    Rule(frozenset({"user", "group"}), _account),
    Rule(frozenset({"bind"}), _descriptors),
    Rule(frozenset({"pid", "access_log"}), _files),
    Rule(frozenset({"reload"}), _watchfiles),
)

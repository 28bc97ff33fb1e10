"""Rules that look at more than one option, and rules that look at this machine.

Each rule yields findings; ``resolve`` adds the value and where it came from.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from djworker import accounts, log
from djworker.accounts import Account
from djworker.conf.address import Address, Family
from djworker.conf.problems import Level
from djworker.conf.table import Config
from djworker.log import sink
from djworker.log.access import ATOMS, stray_percent, unknown_atoms


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


def _status_address(config: Config) -> Iterator[Finding]:
    for address in set(config.status_bind) & set(config.bind):
        if not address.endswith(":0"):  # each time another free port
            message = f"{address} is an address of bind too"
            yield Finding("E011", "status_bind", message, "choose another port, which visitors do not reach")


def _account(config: Config) -> Iterator[Finding]:
    for name, value, number_of, own in (
        ("user", config.user, accounts.user_id, os.geteuid()),
        ("group", config.group, accounts.group_id, os.getegid()),
    ):
        if value is None:
            continue
        try:
            number = number_of(value)
        except KeyError:
            yield Finding("E005", name, f"there is no such {name} here", "create it, or name another")
            continue
        if os.geteuid() != 0 and number != own:
            yield Finding("E006", name, f"only root can change the {name}", "start as root, or leave it out")
    if config.group is not None and config.user is None and os.geteuid() == 0:
        yield Finding("E013", "group", "without a user the workers would still be root", "name the user as well")
    account = accounts.service_account(config.user, config.group)
    if account is not None and (refusal := accounts.refusal(account)):
        hint = "give this root CAP_SETUID and CAP_SETGID, or start the server as that user and leave the option out"
        yield Finding("E006", "user", f"this root cannot become {account}: {refusal}", hint)


def _descriptors(config: Config) -> Iterator[Finding]:
    for address in map(Address.parse, config.bind):
        if address.family is Family.FD and (complaint := _descriptor(address.fd)):
            hint = "pass a listening socket, as systemd's socket units do with ListenStream= and without Accept=yes"
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
    account = accounts.service_account(config.user, config.group)
    if account is not None and accounts.refusal(account):
        return  # told of by _account
    if config.pid is not None and (complaint := _unwritable(config.pid, account, replace=True)):
        yield Finding("E008", "pid", *complaint)
    file = log.access_file(config.access_log)
    if file is not None and (complaint := _unwritable(file, account, replace=False)):
        yield Finding("E008", "access_log", *complaint)


def _unwritable(path: str, account: Account | None, *, replace: bool) -> tuple[str, str] | None:
    """What keeps *account* (None: this process) from writing a file, and the remedy. replace: it is made anew each time."""
    path = os.path.abspath(path)
    directory = os.path.dirname(path)
    if os.path.isdir(path):
        return "that is a directory", "name a file"
    if not os.path.isdir(directory):
        return f"there is no directory {directory}", "create it"
    if not replace and sink.is_strangers_link(path):
        return "that is a link, in a folder that is not root's", "name the file that it leads to"
    written = directory if replace or not os.path.exists(path) else path
    enters = _may(account, directory, os.X_OK)
    if enters and _may(account, written, os.W_OK):
        return None
    if account is None:
        return "no permission to write there", "choose another place, or change the permissions"
    return _closed_to_root(directory, account, enters=enters or replace)


def _closed_to_root(directory: str, account: Account, *, enters: bool) -> tuple[str, str] | None:
    """What keeps root from making the file for *account*. enters: whether it can open what is made for it, or need not."""
    if not accounts.out_of_reach(directory, account):
        hint = "give that user the folder, or choose one that root alone can change"
        return f"{account} may not write there, and users other than root decide where that path leads", hint
    if not enters:
        return f"{account} may not enter {directory}", "open it (chmod o+x), or choose another place"
    return None


def _may(account: Account | None, path: str, how: int) -> bool:
    with accounts.acting_as(account):
        return os.access(path, how, effective_ids=os.access in os.supports_effective_ids)


def _watchfiles(config: Config) -> Iterator[Finding]:
    if config.reload and importlib.util.find_spec("watchfiles") is None:
        yield Finding("E009", "reload", "watchfiles is not installed", "pip install watchfiles")


def _prometheus_client(config: Config) -> Iterator[Finding]:
    if config.status_bind and importlib.util.find_spec("prometheus_client") is None:
        yield Finding("E009", "status_bind", "prometheus_client is not installed", "pip install 'djworker[metrics]'")


PURE: Final = (
    Rule(frozenset({"max_requests", "max_requests_jitter"}), _jitter),
    Rule(frozenset({"access_log_format"}), _atoms),
    Rule(frozenset({"bind", "status_bind"}), _status_address),
)
#: True on one machine and false on another: asked where the server starts, and neither by "manage.py check" (in a build
#: without that user) nor on a reload (the mold is not root any more).
MACHINE: Final = (
    Rule(frozenset({"user", "group"}), _account),
    Rule(frozenset({"bind"}), _descriptors),
    Rule(frozenset({"pid", "access_log", "user", "group"}), _files),
    Rule(frozenset({"reload"}), _watchfiles),
    Rule(frozenset({"status_bind"}), _prometheus_client),
)

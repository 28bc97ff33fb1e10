"""The access log where the arbiter is root and the workers are not: workers open it, so it must be theirs."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from djworker import accounts, log

if TYPE_CHECKING:
    from djworker.accounts import Account

_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
#: For a log that root has to make: its reader may be in the service's group, other users may not read it.
_MODE: Final = 0o640


class LogFileError(Exception):
    """The workers cannot write the log; the text names the file, the account and the remedy."""


def hand_over(access_log: str | None, account: Account | None) -> None:
    """See to it that the workers can open the log, now or after it was rotated.

    A file that they cannot open or make is made for them, or given to them, if only root decides where its path leads.

    Args:
        access_log: the option, as the operator gave it; never one that came from a mold.
        account: the service's; None where the workers are what we are, and there is nothing to do.

    Raises:
        LogFileError: they could not write there.
    """
    file = log.access_file(access_log)
    if file is None or account is None:
        return
    path = os.path.abspath(file)
    try:
        if not _opens(path, account):
            _give(path, account)
            if not _opens(path, account):
                raise PermissionError(errno.EACCES, "a folder on the way is closed to it")
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "give that user the folder, or choose one that root alone can change and every user may enter"
        raise LogFileError(f"the access log {path} cannot be written by {account}: {reason}; {remedy}") from error


def _opens(path: str, account: Account) -> bool:
    with accounts.acting_as(account):
        try:
            os.close(os.open(path, _APPEND, 0o666))
        except PermissionError:
            return False
        except OSError as error:
            if error.errno == errno.ENXIO:  # a named pipe without a reader: theirs, and their affair
                return True
            raise
    return True


def _give(path: str, account: Account) -> None:
    if not accounts.out_of_reach(os.path.dirname(path), account):
        raise PermissionError(errno.EACCES, "users other than root decide where that path leads")
    fd = os.open(path, _APPEND | os.O_NOFOLLOW, _MODE)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise PermissionError(errno.EACCES, "that is no ordinary file, or has a second name")
        os.fchown(fd, account.uid, account.gid)
    finally:
        os.close(fd)

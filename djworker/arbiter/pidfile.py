"""The pid file: who is the arbiter, for tools that still ask a file."""

from __future__ import annotations

import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

from djworker import accounts

if TYPE_CHECKING:
    from djworker.accounts import Account

#: Every user may read it, whatever the umask: that is what it is for.
MODE: Final = 0o644
#: Bytes that are read of one: more than any pid has digits.
_LONGEST: Final = 64


class PidfileError(Exception):
    """The pid file cannot be written; the text names the file, the reason and the remedy."""


class Pidfile:
    """[arbiter] A file with our pid, from start to end.

    Its folder may be the service user's, who then decides what the names in it lead to. So the new file has a name that cannot
    be foreseen, must not be there yet, and is made with the rights of that user where the folder is open to it.
    """

    def __init__(self, path: str, account: Account | None = None) -> None:
        """path: of the file. account: the service's, where that is not our own."""
        self.path = os.path.abspath(path)
        self._account = account

    def create(self) -> None:
        """Write it, in one step.

        Raises:
            PidfileError: it names another process that lives, or the directory cannot be written.
        """
        other = self._other()
        if other is not None:
            msg = f"{self.path} names process {other}, which is running; stop it, or remove the file if it is another program"
            raise PidfileError(msg)
        try:
            with accounts.acting_in(os.path.dirname(self.path), self._account):
                self._replace()
        except OSError as error:
            remedy = "name a file in a folder that exists and can be written, such as /run/app.pid"
            msg = f"cannot write the pid file {self.path}: {error.strerror or error}; {remedy}"
            raise PidfileError(msg) from error

    def _replace(self) -> None:
        temporary = f"{self.path}.{secrets.token_hex(8)}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
        try:
            with open(fd, "w", encoding="ascii") as file:
                os.fchmod(fd, MODE)
                file.write(f"{os.getpid()}\n")
            os.replace(temporary, self.path)
        except OSError:
            os.unlink(temporary)
            raise

    def remove(self) -> None:
        """Remove it, unless it is another server's by now."""
        if self._read() == os.getpid():
            try:
                with accounts.acting_in(os.path.dirname(self.path), self._account):
                    os.unlink(self.path)
            except OSError:
                return

    def _other(self) -> int | None:
        pid = self._read()
        if pid is None or pid <= 0 or pid == os.getpid():
            return None
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return None  # stale: it was killed
        except PermissionError:
            return pid
        return pid

    def _read(self) -> int | None:
        """What it says, if it is a file: a link may lead anywhere, and a pipe would keep us waiting."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            try:
                return int(file.read(_LONGEST))
            except (OSError, ValueError):
                return None

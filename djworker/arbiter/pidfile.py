"""The pid file: who is the arbiter, for tools that still ask a file."""

from __future__ import annotations

import os


class PidfileError(Exception):
    """The pid file cannot be written; the text names the file, the reason and the remedy."""


class Pidfile:
    """[arbiter] A file with our pid, from start to end."""

    def __init__(self, path: str) -> None:
        self.path = path

    def create(self) -> None:
        """Write it, in one step.

        Raises:
            PidfileError: it names another process that lives, or the directory cannot be written.
        """
        other = self._other()
        if other is not None:
            msg = f"{self.path} names process {other}, which is running; stop it, or remove the file if it is another program"
            raise PidfileError(msg)
        temporary = f"{self.path}.{os.getpid()}"
        try:
            with open(temporary, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
            os.replace(temporary, self.path)
        except OSError as error:
            msg = f"cannot write the pid file {self.path}: {error.strerror}"
            raise PidfileError(msg) from error

    def remove(self) -> None:
        """Remove it, unless it is somebody else's by now."""
        if self._read() == os.getpid():
            try:
                os.unlink(self.path)
            except OSError:
                return

    def _other(self) -> int | None:
        pid = self._read()
        if pid is None or pid in (os.getpid(), 0):
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None  # stale: it was killed
        except PermissionError:
            return pid
        return pid

    def _read(self) -> int | None:
        try:
            with open(self.path, encoding="ascii") as file:
                return int(file.read().strip())
        except (OSError, ValueError):
            return None

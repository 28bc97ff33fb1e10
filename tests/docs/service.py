"""What systemd does with a unit, for machines where it does not run: each line of the file is obeyed, and no other is known."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.docs.machine import PATH, Machine, Process
from tests.processes.test_listening import Systemd

#: Lines that need nothing done here: the install section, the order of boots, and what is checked where it counts.
_WITHOUT_EFFECT = {"After", "Description", "WantedBy", "NotifyAccess", "Restart", "Documentation", "Requires"}
_KNOWN = _WITHOUT_EFFECT | {
    *("Type", "User", "WorkingDirectory", "Environment", "ExecStart", "ExecReload"),
    *("RuntimeDirectory", "KillMode", "TimeoutStopSec", "WatchdogSec", "ListenStream"),
}
NOTIFY = "/run/systemd/notify"


class Unit:
    """A unit's lines."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)
        unknown = {name for name, _ in self.lines} - _KNOWN
        assert not unknown, f"nothing here obeys {unknown}"

    def all(self, name: str) -> list[str]:
        """Every line of this name."""
        return [value for key, value in self.lines if key == name]

    def one(self, name: str, default: str = "") -> str:
        """The line of this name."""
        found = self.all(name)
        assert len(found) <= 1, f"{name} stands twice"
        return found[0] if found else default


class Service:
    """A unit that has been started."""

    def __init__(self, machine: Machine, unit: Unit) -> None:
        self.machine = machine
        self.unit = unit
        machine.path(NOTIFY).parent.mkdir(exist_ok=True)
        machine.path(NOTIFY).unlink(missing_ok=True)
        self.systemd = Systemd(machine.path(NOTIFY))
        machine.path(NOTIFY).chmod(0o777)

    @property
    def user(self) -> str:
        """Whose rights it has; empty for root's."""
        return self.unit.one("User")

    def environ(self) -> dict[str, str]:
        """What systemd gives a service: no PWD, no language, nothing of a login."""
        own = dict(item.partition("=")[::2] for line in self.unit.all("Environment") for item in shlex.split(line))
        account = (
            {"HOME": f"/srv/{self.user}", "USER": self.user, "LOGNAME": self.user, "SHELL": "/bin/sh"}
            if self.user
            else {}
        )
        watchdog = (
            {"WATCHDOG_USEC": f"{int(self.unit.one('WatchdogSec')) * 1_000_000}"}
            if self.unit.all("WatchdogSec")
            else {}
        )
        # As on a machine with one processor: what is tested does not depend on it, and takes half the time.
        return {"PATH": PATH, "NOTIFY_SOCKET": NOTIFY, "WEB_CONCURRENCY": "1", **account, **watchdog, **own}

    def command(self, line: str) -> list[str]:
        """The words of an Exec line."""
        words = shlex.split(line.replace("$MAINPID", str(getattr(self, "pid", ""))))
        assert words[0].startswith("/"), f"systemd wants a full path: {line}"
        return words

    def prepare(self) -> None:
        """Make the folders that the unit asks for."""
        for name in self.unit.one("RuntimeDirectory").split():
            folder = self.machine.path(f"/run/{name}")
            folder.mkdir(mode=0o755, exist_ok=True)
            if self.user:
                self.machine.run("chown", f"{self.user}:{self.user}", f"/run/{name}")

    @contextmanager
    def running(self, prefix: tuple[str, ...] = (), user: str | None = None) -> Iterator[Process]:
        """From ``systemctl start`` to ``systemctl stop``, which must be over in time; begun as another user where a prefix is."""
        self.prepare()
        command = self.command(self.unit.one("ExecStart"))
        words = ["sh", "-c", 'export WATCHDOG_PID=$$; exec "$@"', "sh", *prefix, *command]
        user = self.user if user is None else user
        with self.machine.running(*words, user=user, cwd=self._folder(), environ=self.environ()) as process:
            self.pid = process.pid
            try:
                yield process
            finally:
                process.send(signal.SIGTERM)
                code = process.wait(int(self.unit.one("TimeoutStopSec", "90")))
                self.systemd.close()
        assert code == 0, process.output()

    def _folder(self) -> str:
        """It follows links before it starts anything."""
        return self.machine.run("readlink", "-f", self.unit.one("WorkingDirectory", "/")).strip()

    def _run(self, line: str) -> subprocess.CompletedProcess[str]:
        return self.machine.finish(*self.command(line), user=self.user, cwd=self._folder(), environ=self.environ())

    def reload(self) -> bool:
        """``systemctl reload``: each line in turn, up to the first that fails. Whether all of them succeeded."""
        assert self.unit.all("ExecReload"), "the unit has no reload"
        for line in self.unit.all("ExecReload"):
            done = self._run(line)
            print(done.stdout)  # pytest shows it when the test failed
            if done.returncode:
                return False
        return True


def verify(machine: Machine, text: str, name: str = "shop.service") -> str:
    """What ``systemd-analyze verify`` says of a unit file."""
    machine.write(f"/run/systemd/system/{name}", text)
    return machine.finish("systemd-analyze", "verify", f"/run/systemd/system/{name}").stdout

"""An arbiter's edge around real processes, of which any may be made to lie: what it says is sent by the test, or by itself."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence

from djworker.arbiter.child import Child, Key
from djworker.arbiter.children import Children, spawn
from djworker.arbiter.commands import ForkWorker
from djworker.arbiter.events import MoldBooted, Started, WorkerBooted
from djworker.arbiter.fleet import Fleet
from djworker.arbiter.loop import Loop, policy_of
from djworker.arbiter.signal_queue import Signals
from djworker.arbiter.systemd import Systemd
from djworker.conf.table import Config
from djworker.ipc import messages
from djworker.ipc.channel import Channel
from djworker.ipc.launch import Launch
from djworker.ipc.scoreboard import Row

CONFIG = Config(workers=2, bind=("127.0.0.1:0",), probe=())
LAUNCH = Launch("no.settings", (), "/", {}, (), CONFIG, "test")
#: Sends on its own account what it is given: the kernel says that it was this process.
RELAY = """
import array, os, socket, struct, sys
line, pipe = socket.socket(fileno=int(sys.argv[1])), open(int(sys.argv[2]), "rb")
while head := pipe.read(8):
    size, fds = struct.unpack("=II", head)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * fds))] if fds else []
    try:
        line.sendmsg([pipe.read(size)], rights)
    except OSError:
        pass
"""


def sleeper() -> int:
    """A child of this process that does nothing."""
    return spawn(["/bin/sleep", "7200"], {}, ())


class Beds:
    """Sleepers to be used again: a new process is what costs most here."""

    def __init__(self) -> None:
        self._free: list[int] = []

    def take(self) -> int:
        """One that sleeps."""
        return self._free.pop() if self._free else sleeper()

    def give_back(self, pid: int) -> None:
        """One that is not needed any more."""
        self._free.append(pid)

    def close(self) -> None:
        """End them all."""
        for pid in self._free:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def stranger() -> int:
    """A process that is no child of ours; to be killed by whoever asks for it."""
    done = subprocess.run(["/bin/sh", "-c", "sleep 7200 >&- 2>&- & echo $!"], stdout=subprocess.PIPE, check=True)
    return int(done.stdout)


def alive(pid: int) -> bool:
    """Whether it is there, and no zombie of ours."""
    try:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
    except ChildProcessError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Relay:
    """A child that says, by itself, what the test has it say."""

    def __init__(self, line: int) -> None:
        read, self._pipe = os.pipe()
        self.pid = spawn([sys.executable, "-S", "-c", RELAY, str(line), str(read)], {}, (line, read))
        os.close(read)

    def say(self, packet: bytes, fds: int = 0) -> None:
        os.write(self._pipe, struct.pack("=II", len(packet), fds) + packet)

    def end(self) -> int:
        """Its exit status, minus the signal."""
        os.close(self._pipe)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Arbiter:
    """A loop with two molds (generation 1 serves, 2 is being loaded), two ready workers and a reloader, all of them asleep."""

    def __init__(self, beds: Beds | None = None) -> None:
        self._own_beds = beds is None
        self.beds = beds or Beds()
        self.children = Children(LAUNCH, [], subreaper=True)
        self.fleet = Fleet(policy_of(CONFIG))
        self.signals = Signals()
        now = time.monotonic()
        for event in (Started(), MoldBooted(1, self.fleet.policy), WorkerBooted(1), WorkerBooted(2)):
            self.fleet.handle(event, now)
        self.fleet._boot_mold(now)
        self.fleet._orders.take()
        self.theirs: dict[Key, socket.socket] = {}
        for key in (("mold", 1), ("mold", 2), ("worker", 1), ("worker", 2), ("helper", 0)):
            self._add(key)
        self.loop = Loop(self.fleet, self.children, CONFIG, Systemd({}, os.getpid()), self.signals)
        self.pids = {key: child.pid for key, child in self.children.by_key.items()}

    def _add(self, key: Key) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        theirs.setblocking(False)
        child = self.children.by_key[key] = Child(key, self.beds.take(), Channel.from_fd(ours.detach(), guarded=True))
        if key[0] == "worker":
            child.slot, child.row = key[1] - 1, Row.create()
        self.theirs[key] = theirs

    def nameless(self) -> tuple[Child, list[int]]:
        """A third worker, asked for and not yet forked; the descriptors that the mold has got for it."""
        self.fleet.scaled = 3
        handle = self.fleet.processes.new_worker(1, time.monotonic() + 60)
        child = self.children.spawn_worker(ForkWorker(handle.worker_id, handle.slot, 1))
        fds: list[int] = []
        _data, fds, _flags, _address = socket.recv_fds(self.theirs["mold", 1], 4096, 2)
        return child, list(fds)

    def hear(self, key: Key, packets: Sequence[bytes]) -> Child:
        """Have that child say so much; its end, where it is one."""
        child = self.children.by_key[key]
        for packet in packets:
            try:
                self.theirs[key].send(packet)
            except OSError:  # hung up on
                break
            self.loop._listen(child)
        self.bury(child)
        return child

    def bury(self, child: Child) -> None:
        """What the loop does at SIGCHLD, for this child alone."""
        if child.doomed and child.pid and child.key in self.children.by_key:
            status = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
            self.pids.pop(child.key, None)
            self.loop._bury(child, status)

    def close(self) -> None:
        """End everything."""
        for child in list(self.children.by_key.values()):
            self.children.forget(child.key)
        for pid in self.pids.values():
            self.beds.give_back(pid)
        if self._own_beds:
            self.beds.close()
        for end in (*self.theirs.values(), self.signals._wake, self.signals._wakeup):
            end.close()
        self.loop._selector.close()
        self.loop.observer.history.close()


def line_of(message: messages.Message) -> bytes:
    """As it is sent."""
    return messages.encode(message)

"""What Linux tells of other processes: who is here, in which state, with which descriptors. See proc(5)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def pids() -> Iterator[int]:
    """Every process of this machine."""
    return (int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal())


def status(pid: int) -> dict[str, str]:
    """The lines of /proc/PID/status; empty when it is gone."""
    try:
        text = (PROC / str(pid) / "status").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def state(pid: int) -> str:
    """R, S, T (stopped), Z (zombie) and so on; empty when it is gone."""
    return status(pid).get("State", "")[:1]


def alive(pid: int) -> bool:
    """Whether it is there and no zombie."""
    return state(pid) not in ("", "Z")


def runnable_seconds(pid: int) -> float:
    """How long it has run, or would have had the machine been free: the same on a machine that is busy with others."""
    running, waiting, _slices = map(int, (PROC / str(pid) / "schedstat").read_text().split())
    return (running + waiting) / 1e9


def children(pid: int) -> list[int]:
    """The processes whose parent this is."""
    return [other for other in pids() if status(other).get("PPid") == str(pid)]


def title(pid: int) -> str:
    """What ``ps`` shows."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def descriptors(pid: int) -> dict[int, str]:
    """Open descriptors and what they are."""
    found = {}
    try:
        for entry in (PROC / str(pid) / "fd").iterdir():
            try:
                found[int(entry.name)] = str(entry.readlink())
            except FileNotFoundError:
                continue
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return found


def belongs_to(pid: int, marker: bytes, pipe: str) -> bool:
    """Whether a process has *marker* in its environment, or holds *pipe* (as /proc names it).

    A process with a title has no environment to be seen: the title is written over it.
    """
    try:
        environ = (PROC / str(pid) / "environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return marker in environ.split(b"\0") or pipe in descriptors(pid).values()


def tree(marker: bytes, pipe: str) -> list[int]:
    """Everybody who belongs there, but for ourselves."""
    return [pid for pid in pids() if pid != os.getpid() and belongs_to(pid, marker, pipe) and alive(pid)]


def listeners(port: int) -> set[str]:
    """The inodes of the sockets that listen on a port, for either family: another socket there has another one."""
    listening = "0A"
    found = set()
    for table in ("tcp", "tcp6"):
        for line in (PROC / "net" / table).read_text().splitlines()[1:]:
            _, local, _, state, *more = line.split()
            if state == listening and int(local.rpartition(":")[2], 16) == port:
                found.add(more[5])
    return found

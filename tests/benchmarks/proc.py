"""What Linux says about processes: who belongs to a tree, its CPU time and its memory. See proc(5)."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Stat:
    """One line of /proc/PID/stat, as far as we need it; times in clock ticks."""

    pid: int
    parent: int
    own_ticks: int
    reaped_ticks: int  # of children that are gone and were waited for
    started: int  # ticks since boot: with the PID, the identity of a process

    @property
    def ticks(self) -> int:
        """CPU time of the process and of the children that it buried."""
        return self.own_ticks + self.reaped_ticks


@dataclass(frozen=True, slots=True)
class Process:
    """A process of a tree at one moment."""

    pid: int
    parent: int
    command: str
    cpu: float  # seconds
    pss: int  # bytes


def parse_stat(line: str) -> Stat:
    """Read a line of /proc/PID/stat. The command may hold blanks and brackets, so count from its last bracket."""
    pid, _, rest = line.partition(" (")
    fields = rest.rpartition(") ")[2].split()
    # Field n of proc_pid_stat(5) is fields[n - 3] here: 4 ppid, 14-17 utime stime cutime cstime, 22 starttime.
    utime, stime, cutime, cstime = (int(field) for field in fields[11:15])
    return Stat(int(pid), int(fields[1]), utime + stime, cutime + cstime, int(fields[19]))


def parse_pss(text: str) -> int:
    """Bytes on the `Pss:` line of /proc/PID/smaps_rollup (which is in KiB). Raises ValueError without one."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0]) * 1024
    raise ValueError("no Pss line")


def descendants(root: int, stats: Iterable[Stat]) -> list[Stat]:
    """`root` and everything below it, parents first; empty when `root` is not among `stats`."""
    children: dict[int, list[Stat]] = defaultdict(list)
    tree: list[Stat] = []
    for stat in stats:
        children[stat.parent].append(stat)
        if stat.pid == root:
            tree.append(stat)
    for member in tree:
        tree.extend(children[member.pid])
    return tree


def stat(pid: int) -> Stat | None:
    """The process now; None when it is gone."""
    try:
        return parse_stat((PROC / str(pid) / "stat").read_text(errors="replace"))
    except (FileNotFoundError, ProcessLookupError):
        return None


def tree(root: int) -> list[Stat]:
    """`root` and all its living descendants."""
    pids = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal())
    return descendants(root, filter(None, map(stat, pids)))


def cpu_seconds(stats: Iterable[Stat]) -> float:
    """CPU time of these processes and of the children that they buried."""
    return sum(one.ticks for one in stats) / TICKS_PER_SECOND


def command(pid: int) -> str:
    """The command line (or the title that the process gave itself); empty when it is gone."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def pss(pid: int) -> int:
    """Proportional set size in bytes: private pages, and each shared page divided by those who share it. 0 when gone."""
    try:
        return parse_pss((PROC / str(pid) / "smaps_rollup").read_text())
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return 0  # ValueError: a zombie has an empty file


def snapshot(root: int) -> list[Process]:
    """The tree with CPU time and memory of each process."""
    return [
        Process(one.pid, one.parent, command(one.pid), one.ticks / TICKS_PER_SECOND, pss(one.pid)) for one in tree(root)
    ]

"""What Linux tells of other processes: who is here, in which state, with which descriptors. See proc(5)."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
#: Fields of /proc/PID/stat, counted from the one after the name.
_STATE, _PARENT, _BEGAN = 0, 1, 19
#: Of <linux/netlink.h>, <linux/sock_diag.h> and <netinet/tcp.h>.
AF_NETLINK, NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 16, 4, 20
NLM_F_REQUEST_DUMP, NLMSG_ERROR, NLMSG_DONE = 0x301, 2, 3
TCP_LISTEN = 10
#: Bytes of a message's head.
HEAD = 16


def pids() -> Iterator[int]:
    """Every process of this machine."""
    return (int(name) for name in os.listdir(PROC) if name.isdecimal())  # noqa: PTH208  # as in `descriptors`


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


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name; none when it is gone."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()


def began(pid: int) -> int:
    """When it began, in clock ticks since the machine did; 0 when it is gone, or a zombie."""
    fields = _stat(pid)
    return int(fields[_BEGAN]) if fields and fields[_STATE] != "Z" else 0


def children(pid: int) -> list[int]:
    """The processes whose parent this is."""
    return [other for other in pids() if _stat(other)[_PARENT:][:1] == [str(pid)]]


def title(pid: int) -> str:
    """What ``ps`` shows."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def descriptors(pid: int) -> dict[int, str]:
    """Open descriptors and what they are."""
    folder = f"{PROC}/{pid}/fd"
    found = {}
    try:
        for name in os.listdir(folder):  # noqa: PTH208  # a third of the work, for each process of the machine
            with suppress(FileNotFoundError):
                found[int(name)] = os.readlink(f"{folder}/{name}")  # noqa: PTH115
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


def tree(marker: bytes, pipe: str, since: int = 1) -> list[int]:
    """Everybody who belongs there, but for ourselves. Nobody does who began before *since* (see ``began``)."""
    young = [pid for pid in pids() if pid != os.getpid() and began(pid) >= since]
    return [pid for pid in young if belongs_to(pid, marker, pipe) and alive(pid)]


def listeners(port: int) -> set[str]:
    """The inodes of the sockets that listen on a port, for either family: another socket there has another one."""
    try:
        found = [*_asked_for(socket.AF_INET), *_asked_for(socket.AF_INET6)]
    except OSError:  # a kernel that cannot be asked
        found = list(_read())
    return {inode for number, inode in found if number == port}


def _asked_for(family: int) -> Iterator[tuple[int, str]]:
    """Ports and inodes of the listening sockets of a family, as ``ss`` asks for them: see sock_diag(7).

    /proc/net/tcp has the thousands of connections, too, that other tests have ended within a minute.
    """
    with socket.socket(AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        about = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 0, 1 << TCP_LISTEN)
        kernel.send(struct.pack("=IHHII", HEAD + len(about), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 0, 0) + about)
        while data := kernel.recv(1 << 18):
            while data:
                size, kind = struct.unpack_from("=IH", data)
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    raise OSError(-struct.unpack_from("=i", data, HEAD)[0], "sock_diag")
                yield struct.unpack_from("!H", data, HEAD + 4)[0], str(struct.unpack_from("=I", data, HEAD + 68)[0])
                data = data[(size + 3) & ~3 :]


def _read() -> Iterator[tuple[int, str]]:
    """The same, from what everybody may read."""
    listening = "0A"
    for table in ("tcp", "tcp6"):
        for line in (PROC / "net" / table).read_text().splitlines()[1:]:
            _, local, _, state, *more = line.split()
            if state == listening:
                yield int(local.rpartition(":")[2], 16), more[5]

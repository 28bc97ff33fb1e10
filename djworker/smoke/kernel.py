"""What the kernel knows of a server's processes: who holds a connection, what is open, who is whose child (Linux)."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

__all__ = ["children", "describe", "marked", "opened", "owners", "title"]

_TABLES: Final = ("/proc/net/tcp", "/proc/net/tcp6")


def opened(pid: int) -> dict[int, str]:
    """Return what a process has open: by descriptor, what it is. Empty where that cannot be known."""
    found = {}
    for name in _names(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:  # closed meanwhile
            continue
    return found


def owners(pids: Iterable[int], server_port: int, client_ports: Iterable[int]) -> dict[int, int]:
    """Return which process has accepted which connection: by the client's port, the process id."""
    held = {what: pid for pid in pids for what in opened(pid).values() if what.startswith("socket:")}
    wanted = set(client_ports)
    found = {}
    for local, remote, inode in _connections():
        if local[1] == server_port and remote[1] in wanted and (pid := held.get(f"socket:[{inode}]")):
            found[remote[1]] = pid
    return found


def describe(what: str) -> str:
    """Say what a descriptor is: of a TCP socket, its peer."""
    for _, (host, port), inode in _connections():
        if what == f"socket:[{inode}]" and port:
            return f"a connection to {host}:{port}"
    return "a socket" if what.startswith("socket:") else what


def children(pid: int) -> dict[int, str]:
    """Return all living descendants of a process with their titles; those that have ended do not count."""
    parents: dict[int, list[int]] = {}
    for child, state, parent in _processes():
        if state not in "ZX":
            parents.setdefault(parent, []).append(child)
    found: dict[int, str] = {}
    waiting = list(parents.get(pid, ()))
    while waiting:
        child = waiting.pop()
        found[child] = title(child)
        waiting += parents.get(child, ())
    return found


def marked(variable: str, session: int) -> list[int]:
    """Return the living processes of a session, and those with this NAME=VALUE in their environment.

    A process with a title has no environment to be seen: the title is written over it. It does not leave the session.
    """
    wanted = variable.encode()
    alive = (pid for pid, state, _ in _processes() if state not in "ZX")
    return [pid for pid in alive if _session(pid) == session or wanted in _read(f"/proc/{pid}/environ").split(b"\0")]


def title(pid: int) -> str:
    """Return what ``ps`` shows of a process."""
    return _read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip() or "?"


def _processes() -> Iterator[tuple[int, str, int]]:
    for name in filter(str.isdigit, _names("/proc")):
        fields = _read(f"/proc/{name}/stat").rpartition(b")")[2].split()
        if fields:
            yield int(name), fields[0].decode(), int(fields[1])


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def _connections() -> Iterator[tuple[tuple[str, int], tuple[str, int], str]]:
    for path in _TABLES:
        for line in _read(path).decode().splitlines()[1:]:
            fields = line.split()
            yield _endpoint(fields[1]), _endpoint(fields[2]), fields[9]


def _endpoint(text: str) -> tuple[str, int]:
    address, _, port = text.partition(":")
    words = [struct.pack("=I", int(address[at : at + 8], 16)) for at in range(0, len(address), 8)]
    family: Mapping[int, int] = {1: socket.AF_INET, 4: socket.AF_INET6}
    return socket.inet_ntop(family[len(words)], b"".join(words)), int(port, 16)


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # it has ended
        return b""

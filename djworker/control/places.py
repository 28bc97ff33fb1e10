"""Where the control sockets of running servers are, and which of them are this project's."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["Place", "directories", "fingerprint", "new_address", "places"]

#: What abstract sockets of ours begin with. An abstract socket needs no folder that can be written, and leaves no file behind.
PREFIX: Final = "@djworker/"
#: Where there are no abstract sockets (macOS): a folder for each user, in that for temporary files.
FOLDER: Final = "djworker-"
_ABSTRACT: Final = re.compile(r"@djworker/(\d{1,10})/(\d{1,10})/([0-9a-f]{8}(?:-[0-9a-f]{8})*)")
_FILE: Final = re.compile(r"(\d{1,10})-([0-9a-f]{8}(?:-[0-9a-f]{8})*)\.sock")
#: unix(7), /proc/net/unix: the flag of a socket that listens (__SO_ACCEPTCON).
_LISTENS: Final = 0x10000
_SOCKETS: Final = "/proc/net/unix"


@dataclass(frozen=True, slots=True)
class Place:
    """[client] One control socket. address: @ and a name for an abstract one; marks: fingerprints of its project."""

    address: str
    uid: int
    pid: int
    marks: frozenset[str]


def fingerprint(directory: str) -> str:
    """Return a short name for a directory."""
    return hashlib.sha256(os.fsencode(os.path.normpath(directory))).hexdigest()[:8]


def directories(paths: Iterable[str]) -> set[str]:
    """Return absolute directories, as they are named and as they are without symbolic links."""
    found = {os.path.normpath(path) for path in paths if os.path.isabs(path)}
    return found | {os.path.realpath(path) for path in found}


def new_address(project: Iterable[str], uid: int, pid: int) -> str:
    """Return the address of a new server's socket, which says whose it is, and of which project.

    Containers may share the network, and thus the abstract names, without sharing process ids: so there is chance in it, too.

    Args:
        project: its directories, see ``here``.
        uid: the user that the server runs as.
        pid: the server's process id.
    """
    marks = "-".join((*sorted({fingerprint(path) for path in project}), secrets.token_hex(4)))
    if sys.platform == "linux":
        return f"{PREFIX}{uid}/{pid}/{marks}"
    return os.path.join(folder_of(uid), f"{pid}-{marks}.sock")


def folder_of(uid: int) -> str:
    """Return the folder of a user's sockets where there are no abstract ones."""
    return os.path.join(tempfile.gettempdir(), f"{FOLDER}{uid}")


def places() -> list[Place]:
    """Return the control sockets of this machine, those of other users included."""
    found = {place.address: place for place in (_abstract() if sys.platform == "linux" else _files())}
    return sorted(found.values(), key=lambda place: place.pid)


def _abstract() -> Iterator[Place]:
    try:
        with open(_SOCKETS, encoding="utf-8", errors="replace") as file:
            lines = file.read().split("\n")[1:]
    except OSError:
        return
    for line in lines:
        words = line.split(maxsplit=7)
        if len(words) == 8 and int(words[3], 16) & _LISTENS and (match := _ABSTRACT.fullmatch(words[7])):
            yield Place(words[7], int(match[1]), int(match[2]), frozenset(match[3].split("-")))


def _files() -> Iterator[Place]:
    root = tempfile.gettempdir()
    for folder in os.listdir(root):
        uid = folder.removeprefix(FOLDER)
        if not folder.startswith(FOLDER) or not uid.isdecimal():
            continue
        with contextlib.suppress(OSError):
            for name in os.listdir(os.path.join(root, folder)):
                if match := _FILE.fullmatch(name):
                    yield Place(
                        os.path.join(root, folder, name), int(uid), int(match[1]), frozenset(match[2].split("-"))
                    )


def here(environ: Mapping[str, str], program: str = "") -> set[str]:
    """Return the directories that may be the project's: the working directory, and that of the program (``manage.py``)."""
    cwd = os.getcwd()
    found = [cwd]
    if (logical := environ.get("PWD")) and os.path.realpath(logical) == os.path.realpath(cwd):
        found.append(logical)
    if program:
        found.append(os.path.dirname(os.path.abspath(program)))
    return directories(found)

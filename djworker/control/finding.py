"""Which server is meant: the one of this project, or the one that ``--instance`` names."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from djworker.conf import variables
from djworker.control.client import ControlConnection, RefusedError, UnreachableError
from djworker.control.places import Place, directories, fingerprint, places

__all__ = ["PATHS", "Instance", "NoServerError", "SeveralServersError", "find"]

#: Seconds for all servers together to say who they are.
TIMEOUT: Final = 2.0
ROOT: Final = 0
#: How the path of a control socket begins.
PATHS: Final = ("/", "@", ".")


class NoServerError(Exception):
    """No server of this project runs; the text names what runs instead."""


class SeveralServersError(Exception):
    """Several servers could be meant; the text lists them."""


@dataclass(frozen=True, slots=True)
class Instance:
    """[client] A server, and what it says of itself; ``refusal``: why it says nothing."""

    address: str
    pid: int = 0
    uid: int = -1
    hello: Mapping[str, Any] = field(default_factory=dict)
    refusal: str = ""

    def __str__(self) -> str:
        name, directory = self.hello.get("name", "?"), self.hello.get("directory", "?")
        settings = self.hello.get("settings") or "?"
        return f"{self.pid}  {name} in {directory}, settings {settings}, user {self.uid}"

    def is_of(self, project: Iterable[str]) -> bool:
        """Whether it serves a project in one of these directories. Its own may have symbolic links, which may have moved."""
        theirs = [self.hello.get(name) for name in ("directory", "path")]
        return not directories(path for path in theirs if isinstance(path, str)).isdisjoint(project)


def find(instance: str, project: set[str], environ: Mapping[str, str]) -> Instance:
    """Return the server that is meant.

    Args:
        instance: a process id, the path of a socket, @ and the name of an abstract one, or empty.
        project: directories of the project, see ``places.here``.
        environ: ``DJWORKER_CONTROL`` may name the path of the socket, as it does for the server.

    Raises:
        NoServerError: there is none.
        SeveralServersError: there is more than one.
    """
    address = instance or environ.get(variables.CONTROL, "")
    if address.startswith(PATHS):
        return _at(address if address.startswith("@") else os.path.abspath(address))
    known = places()
    if instance:
        return _one(
            [place for place in known if str(place.pid) == instance], f"no server has the process id {instance}"
        )
    trusted = [place for place in known if place.uid in _trusted(project)]
    marks = {fingerprint(path) for path in project}
    # One that refuses, or does not answer, is this project's by the name of its socket.
    found = [server for server in _hellos(_marked(trusted, marks)) if server.refusal or server.is_of(project)]
    if not found:  # the name may be that of a link, which leads here
        found = [server for server in _hellos(trusted) if server.is_of(project)]
    if not found and (foreign := _marked(known, marks)):
        return _refusing(foreign[0])
    if len(found) == 1:
        return found[0]
    if found:
        raise SeveralServersError(_listed("several servers of this project run; name one with --instance PID:", found))
    text = f"no server of this project runs (looked for: {', '.join(sorted(project))})"
    others = [server for server in _hellos(trusted) if server.hello]
    raise NoServerError(_listed(f"{text}; there are, for --instance PID:", others) if others else text)


def _marked(found: Iterable[Place], marks: set[str]) -> list[Place]:
    return [place for place in found if place.marks & marks]


def _refusing(place: Place) -> Instance:
    text = f"the server of this project is user {place.uid}'s, and answers that user and root"
    if os.geteuid() == ROOT:  # who might believe a stranger's server, as any user can listen under any abstract name
        text = (
            f"user {place.uid} runs a server that says it is this project's, and does not own the project's folder:"
            f" if that is your server, name it with --instance {place.pid}"
        )
    return Instance(place.address, place.pid, place.uid, refusal=text)


def _at(address: str) -> Instance:
    found = _hellos([Place(address, -1, 0, frozenset())])
    if not found:
        raise NoServerError(f"no server listens at {address}")
    return found[0]


def _one(found: Sequence[Place], otherwise: str) -> Instance:
    servers = _hellos(found)
    if not servers:
        raise NoServerError(otherwise)
    return servers[0]


def _trusted(project: Iterable[str]) -> set[int]:
    """Users whose servers are believed: root, ourselves, and for root the owners of the project.

    Any user may listen under any abstract name, and say that he serves this project.
    """
    trusted = {ROOT, os.geteuid()}
    if os.geteuid() == ROOT:
        for path in project:
            try:
                trusted.add(os.stat(path).st_uid)
            except OSError:
                continue
    return trusted


def _hellos(found: Sequence[Place]) -> list[Instance]:
    """Ask all of them at once who they are: one that is stopped must not take the time of the others."""
    deadline = time.monotonic() + TIMEOUT
    opened = []
    for place in found:
        try:
            connection = ControlConnection(place.address, TIMEOUT)
        except UnreachableError:
            continue
        opened.append((place, connection))
        connection.send("hello")
    return [_hello(place, connection, deadline) for place, connection in opened]


def _hello(place: Place, connection: ControlConnection, deadline: float) -> Instance:
    with connection:
        uid = connection.owner
        if uid is not None and place.uid not in (-1, uid):
            return Instance(
                place.address, place.pid, uid, refusal=f"the socket says user {place.uid}, and is user {uid}'s"
            )
        try:
            *_, last = connection.replies(max(deadline - time.monotonic(), 0.01))
        except (UnreachableError, RefusedError) as error:
            return Instance(place.address, place.pid, place.uid, refusal=str(error))
    pid = last.fields.get("pid")
    return Instance(place.address, place.pid or (pid if isinstance(pid, int) else 0), uid or 0, last.fields)


def _listed(title: str, servers: Sequence[Instance]) -> str:
    return "\n".join((title, *(f"  {server}" for server in servers)))

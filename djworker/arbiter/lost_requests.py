"""Lines in the access log for the requests that a worker has taken to its end: killed, it cannot write them itself."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from djworker import accounts, log
from djworker.ipc import in_flight
from djworker.log.access import access_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djworker.conf.table import Config
    from djworker.ipc.in_flight import LostRequest

__all__ = ["write_lines"]

#: Header fields that have no ``HTTP_`` before their name in a WSGI environment.
_BARE: Final = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})


@dataclass(slots=True)
class _LostExchange:
    """[arbiter] One of them, in the shape that the access log knows."""

    environ: dict[str, Any]
    reason: str
    phase: str
    started: float
    pid: int
    status: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    sent: int = 0
    error: str = ""


def write_lines(lost: Sequence[LostRequest], pid: int, reason: str, config: Config, folder: str) -> None:
    """Write a line for each, as the workers do: with their rights, and their place and form of the log.

    Args:
        lost: what the worker had in hand.
        pid: the worker's.
        reason: why they have no answer.
        config: that of the workers.
        folder: which the path of the log is relative to.

    Raises:
        OSError: the log cannot be opened.
    """
    path = config.access_log
    if not lost or path is None:
        return
    write = access_logger(config.access_log_format)
    with accounts.acting_as(accounts.service_account(config.user, config.group)):
        log.configure_access(path if log.access_file(path) is None else os.path.join(folder, path))
    try:
        for request in lost:
            write(_LostExchange(_environ(request), reason, request.phase, request.began, pid))
    finally:
        log.configure_access(None)


def _environ(request: LostRequest) -> dict[str, Any]:
    """Read a head, which a worker has found to be one, or says so."""
    first, *fields = request.head.decode("latin-1").split("\r\n")
    method, _, rest = first.partition(" ")
    target, _, protocol = rest.partition(" ")
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {
        "REMOTE_ADDR": request.client,
        "REQUEST_METHOD": method,
        "RAW_URI": target,
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": protocol,
    }
    for line in fields:
        name, _, value = line.partition(":")
        key = name.strip().upper().replace("-", "_")
        environ.setdefault(key if key in _BARE else f"HTTP_{key}", value.strip())
    return environ


def read(fd: int) -> list[LostRequest]:
    """See ``in_flight.read``; nothing where there is no memory for it."""
    try:
        return in_flight.read(fd)
    except (OSError, ValueError):
        return []

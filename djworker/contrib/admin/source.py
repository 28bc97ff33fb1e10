"""What the server of this worker says of itself, asked over its control socket. The hub goes on meanwhile, and the wait ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

from djworker.conf import variables
from djworker.control.client import ControlConnection, RefusedError, UnreachableError
from djworker.control.gathering import ask, receive

__all__ = ["NothingToShowError", "ServerAnswers", "act", "look"]

#: Seconds for all answers. The server gives its workers one; the rest is for a machine that is busy.
TIMEOUT: Final = 4.0
_VERBS: Final = ("status", "history", "requests", "pool")


class NothingToShowError(Exception):
    """There is nothing to show; the text says why."""


class ServerAnswers(NamedTuple):
    """The answers of four verbs, as ``djworkerctl`` prints them with ``--json``."""

    status: Mapping[str, Any]
    history: Mapping[str, Any]
    requests: Mapping[str, Any]
    pool: Mapping[str, Any]


def _address() -> str:
    address = os.environ.get(variables.SERVER)
    if address is None:
        raise NothingToShowError(
            "This process is no worker of djworker. Start the project with “manage.py runworkers” or “djworker”:"
            " runserver, gunicorn and other servers have nothing that could be shown here."
        )
    if not address:
        raise NothingToShowError(
            "The server has no control socket: the option “control” is “off”, or it could not be opened."
        )
    return address


def look() -> ServerAnswers:
    """Return what the server says now.

    Raises:
        NothingToShowError: this is no worker of djworker, or the server does not answer.
    """
    address, deadline = _address(), time.monotonic() + TIMEOUT
    try:
        return ServerAnswers(*_ask_all(address, deadline))
    except UnreachableError as error:
        raise NothingToShowError(f"The server does not answer: {error}") from error


def _ask_all(address: str, deadline: float) -> Iterator[dict[str, Any]]:
    """Ask all before the first has answered: two of them take a second where a worker is blocked."""
    with ExitStack() as stack:
        connections = [stack.enter_context(ControlConnection(address, TIMEOUT)) for _ in _VERBS]
        for connection, verb in zip(connections, _VERBS, strict=True):
            connection.send(verb)
        for connection, verb in zip(connections, _VERBS, strict=True):
            try:
                yield receive(connection, verb, max(0.1, deadline - time.monotonic()))
            except RefusedError:  # at this moment there is no worker to be asked
                yield {}


def act(verb: str, arguments: Mapping[str, Any]) -> str:
    """Have the server do something; return what it says.

    Args:
        verb: ``reload`` or ``recycle``.
        arguments: of the verb.

    Raises:
        NothingToShowError: there is no server, it does not answer, or it refuses; the text says why.
    """
    try:
        with ControlConnection(_address(), TIMEOUT) as connection:
            return str(ask(connection, verb, arguments, TIMEOUT).get("message", "done"))
    except (UnreachableError, RefusedError) as error:
        raise NothingToShowError(f"Not done: {error}") from error

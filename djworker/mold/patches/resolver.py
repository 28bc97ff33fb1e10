"""Looking up names as gevent does, in native threads; but an address is none, and needs no thread."""

from __future__ import annotations

import _socket
import os
from typing import Any, Final

import gevent
from gevent.resolver.thread import Resolver as ThreadResolver

_FAMILIES: Final = (_socket.AF_INET, _socket.AF_INET6)


class Resolver(ThreadResolver):
    """[worker] gevent's resolver, short-cut for addresses.

    Every outgoing connection asks, one to `127.0.0.1` too, and a connection to a name asks again with the address that
    was found. To write an address in another form asks no server, so it cannot block the hub; a visit to a native thread for
    it cost fourteen times as much CPU as the answer.
    """

    def getaddrinfo(self, host: Any, port: Any, *args: Any, **more: Any) -> Any:
        """As `socket.getaddrinfo`."""
        if isinstance(port, int) and is_address(host):
            return _socket.getaddrinfo(host, port, *args, **more)
        return super().getaddrinfo(host, port, *args, **more)


def is_address(host: object) -> bool:
    """Whether this is an IPv4 or IPv6 address in its usual form, without a zone."""
    if not isinstance(host, str):
        return False
    for family in _FAMILIES:
        try:
            _socket.inet_pton(family, host)
        except (OSError, ValueError):  # ValueError: with a NUL in it
            continue
        return True
    return False


def install() -> None:
    """For every hub from now on. A resolver of gevent's that was chosen is kept."""
    if "GEVENT_RESOLVER" not in os.environ:
        gevent.config.resolver = Resolver

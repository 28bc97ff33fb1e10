"""Peers that are believed: addresses, networks, unix sockets, or all. Pure: no name is resolved."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from djworker.conf.problems import UnreadableError

__all__ = ["ANY_PEER", "LOOPBACK", "UNIX", "Peers", "canonical", "plain", "shown"]

ANY_PEER: Final = "*"
UNIX: Final = "unix"
#: What stands for the client of a unix socket: programs take REMOTE_ADDR for an IP address.
LOOPBACK: Final = "127.0.0.1"
#: RFC 4291 2.5.5.2: how a socket of IPv6 that serves both families shows a peer of IPv4.
MAPPED: Final = "::ffff:"
#: Addresses whose meaning is cached. A proxy's clients come again and again.
CACHED: Final = 1024


def plain(address: str) -> str:
    """Return an address of IPv4 as such, where IPv6 only carries it."""
    return address[len(MAPPED) :] if address.startswith(MAPPED) and "." in address else address


def shown(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return the text of an address, that of IPv4 where IPv6 only carries it."""
    return str(getattr(address, "ipv4_mapped", None) or address)


def canonical(text: str) -> str:
    """Return the one spelling of an address, a network, ``unix`` or ``*``.

    Raises:
        UnreadableError: it is none of these, or the address of a host with the mask of a network.
    """
    if text in {ANY_PEER, UNIX}:
        return text
    try:
        network = ipaddress.ip_network(plain(text))
    except ValueError:
        raise UnreadableError(f"{text!r} is no peer", _hint(text)) from None
    return str(network.network_address if network.num_addresses == 1 else network)


def _hint(text: str) -> str:
    try:
        return f"give {ipaddress.ip_network(text, strict=False)} for the network, or an address without a mask"
    except ValueError:
        return "give an IP address, a network such as 10.0.0.0/8, unix for unix sockets, or * for every peer"


class Peers:
    """[worker] The value of an option that names peers."""

    def __init__(self, texts: Iterable[str]) -> None:
        """texts: canonical."""
        texts = frozenset(texts)
        self._every_peer = ANY_PEER in texts
        self._unix = UNIX in texts
        self._networks = tuple(ipaddress.ip_network(text) for text in texts - {ANY_PEER, UNIX})
        #: Whether an address was named, itself or its network. ``*`` names none.
        self.names = lru_cache(CACHED)(self._names)

    def have(self, peer: str, *, unix: bool) -> bool:
        """Tell whether the other end of a connection is one of them.

        Args:
            peer: its address.
            unix: whether it came through a unix socket; then the address says nothing.
        """
        return self._every_peer or (self._unix if unix else self.names(peer))

    def _names(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(shown(ipaddress.ip_address(address)))
        except ValueError:
            return False
        return any(found in network for network in self._networks)

"""Where a server may listen: the text of the ``bind`` option as a value.

Pure text handling: no name is resolved and no socket is made here.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from djworker.conf.problems import UnreadableError

DEFAULT_HOST: Final = "127.0.0.1"
#: sizeof(sockaddr_un.sun_path) is 108 on Linux and 104 on the BSDs, the closing zero included.
UNIX_PATH_LIMIT: Final = 103
HIGHEST_PORT: Final = 65_535
PORT: Final = re.compile(r"[0-9]{1,5}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
#: RFC 1123 section 2.1, with the underscore that container networks use in service names.
_HOST: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)


class Family(StrEnum):
    """What kind of socket an address names."""

    TCP = "tcp"
    TCP6 = "tcp6"
    UNIX = "unix"
    FD = "fd"


@dataclass(frozen=True, slots=True)
class Address:
    """One place to listen. ``str(address)`` is its canonical text, which ``Address.parse`` reads back.

    host and port are set for TCP and TCP6 (host is an IP address or, for TCP only, a name), path for UNIX (absolute, or
    @ and the name of an abstract socket), fd for FD (a listening socket that another process has opened).
    """

    family: Family
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``PORT``, ``HOST:PORT``, ``:PORT``, ``[V6]:PORT``, ``unix:PATH``, ``unix:@NAME`` or ``fd://N``.

        ``0:PORT`` and ``:PORT`` mean every IPv4 interface, as with runserver. Raises UnreadableError with the remedy.
        """
        text = text.strip()
        if text.startswith("unix:"):
            return cls._unix(text.removeprefix("unix:"))
        if text.startswith("fd://"):
            return cls._descriptor(text.removeprefix("fd://"))
        return cls._network(text)

    @classmethod
    def _unix(cls, path: str) -> Address:
        if not path.strip("/") or "\0" in path:
            raise UnreadableError("a unix socket needs a path", "give unix:/run/app.sock")
        if path.startswith("@"):
            return cls._abstract(path)
        # normpath keeps two leading slashes (POSIX lets them mean something); unix:///run/x is a common spelling.
        path = os.path.abspath("/" + path.lstrip("/") if path.startswith("/") else path)
        if len(os.fsencode(path)) > UNIX_PATH_LIMIT:
            raise UnreadableError(
                f"the path has {len(os.fsencode(path))} bytes", f"give one of at most {UNIX_PATH_LIMIT}"
            )
        return cls(Family.UNIX, path=path)

    @classmethod
    def _abstract(cls, path: str) -> Address:
        """Read the name of an abstract socket (unix(7)), written as ss(8) and systemd write it."""
        if len(path) == 1 or not path.isprintable() or "," in path:
            raise UnreadableError("an abstract socket needs a name of printable characters", "give unix:@app")
        if len(os.fsencode(path)) > UNIX_PATH_LIMIT:
            raise UnreadableError(
                f"the name has {len(os.fsencode(path)) - 1} bytes", f"give one of at most {UNIX_PATH_LIMIT - 1}"
            )
        return cls(Family.UNIX, path=path)

    @classmethod
    def _descriptor(cls, number: str) -> Address:
        if not _NUMBER.fullmatch(number):
            raise UnreadableError("a descriptor is a number", "give fd://3")
        return cls(Family.FD, fd=int(number))

    @classmethod
    def _network(cls, text: str) -> Address:
        if "://" in text:
            rest = text.partition("://")[2].partition("/")[0]
            raise UnreadableError(
                "a URL is no address", f"give {rest or 'HOST:PORT'}; TLS belongs to the proxy in front"
            )
        if text.startswith(("/", "./", "~")):
            raise UnreadableError("a path is no address", f"give unix:{text}")
        host, colon, port = text.rpartition(":")
        if not PORT.fullmatch(port) or int(port) > HIGHEST_PORT:
            raise UnreadableError(
                "no port from 0 to 65535 at its end", "give HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N"
            )
        if not colon:
            return cls(Family.TCP, host=DEFAULT_HOST, port=int(port))
        if host.startswith("[") and host.endswith("]"):
            return cls(Family.TCP6, host=_ipv6(host[1:-1]), port=int(port))
        return cls(Family.TCP, host=_ipv4_or_name(host), port=int(port))

    def __str__(self) -> str:
        """Write the canonical text."""
        match self.family:
            case Family.UNIX:
                return f"unix:{self.path}"
            case Family.FD:
                return f"fd://{self.fd}"
            case Family.TCP6:
                return f"[{self.host}]:{self.port}"
            case Family.TCP:
                return f"{self.host}:{self.port}"

    @property
    def is_abstract(self) -> bool:
        """Whether it names an abstract unix socket, which is no file."""
        return self.family is Family.UNIX and self.path.startswith("@")

    @property
    def url(self) -> str:
        """What to type into a browser, or the canonical text where no browser can go."""
        return f"http://{self}" if self.family in {Family.TCP, Family.TCP6} else str(self)


def _ipv6(host: str) -> str:
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        raise UnreadableError(
            f"{host!r} is no IPv6 address", "give [::1]:8000, or [::]:8000 for every interface"
        ) from None


def _ipv4_or_name(host: str) -> str:
    if host in {"", "0"}:
        return "0.0.0.0"  # noqa: S104 - the operator asked for every interface
    if ":" in host:
        raise UnreadableError("an IPv6 address needs brackets", "give [::1]:8000")
    if host.replace(".", "").isdigit():
        return _ipv4(host)
    if not _HOST.fullmatch(host):
        raise UnreadableError(f"{host!r} is no host name", "give HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N")
    return host


def _ipv4(host: str) -> str:
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise UnreadableError(
            f"{host!r} is no IPv4 address", "give 127.0.0.1:8000, or 0.0.0.0:8000 for every interface"
        ) from None

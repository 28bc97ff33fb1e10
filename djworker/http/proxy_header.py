"""The PROXY protocol, versions 1 and 2: what a proxy of plain TCP says of its client, once, before the first request. Pure.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt. "The receiver MUST NOT try to guess whether the protocol header is
present or not": where ``proxy_protocol`` is on, each connection begins with one; what does not is refused.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from typing import Final, NamedTuple

from djworker.conf.address import HIGHEST_PORT
from djworker.conf.peers import LOOPBACK, shown
from djworker.http.request import ProtocolError

__all__ = ["Announced", "read"]

V1: Final = b"PROXY "
V2: Final = b"\r\n\r\n\0\r\nQUIT\n"
#: Section 2.1: "a 108-byte buffer is always enough to store all the line and a trailing zero".
LONGEST_LINE: Final = 107
#: Bytes of addresses and TLVs in version 2; the format has up to 65535. HAProxy itself reads what fits in its buffer.
LONGEST_REST: Final = 4096
#: Signature, version and command, family and protocol, length of the rest: 2.2.
START: Final = struct.Struct("!12sBBH")
LOCAL, PROXY = 0x20, 0x21
#: What was forwarded, and how its two addresses and ports are packed. The addresses of unix sockets say nothing.
UNSPECIFIED, TCP4, TCP6, UNIX = 0x00, 0x11, 0x21, 0x31
PACKED: Final = {
    UNSPECIFIED: struct.Struct(""),
    TCP4: struct.Struct("!4s4sHH"),
    TCP6: struct.Struct("!16s16sHH"),
    UNIX: struct.Struct("!108s108s"),
}
LINE: Final = re.compile(
    rb"PROXY (?:UNKNOWN(?: [ -~]*)?|(TCP4|TCP6) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4}))\r\n"
)


class Announced(NamedTuple):
    """A header that has been read.

    size: its bytes. client: address and port; of a client that came through a unix socket, the port is empty. None where the
    connection is the proxy's own (a health check), or it does not know: then the peer is the client.
    """

    size: int
    client: tuple[str, str] | None


def read(data: bytes) -> Announced | None:
    """Read the header with which a connection begins; None while it is not complete.

    Raises:
        ProtocolError: there is none, or it is not as it should be.
    """
    if data.startswith(V1[: len(data)]):
        return _version_1(data)
    if data.startswith(V2[: len(data)]):
        return _version_2(data)
    raise ProtocolError(400, "no header of the PROXY protocol")


def _version_1(data: bytes) -> Announced | None:
    size = data.find(b"\n", 0, LONGEST_LINE) + 1
    if not size:
        if len(data) >= LONGEST_LINE:
            raise _malformed()
        return None
    match = LINE.fullmatch(data, 0, size)
    if match is None:
        raise _malformed()
    family, *words = (word.decode("ascii") for word in match.groups(b""))
    if not family:
        return Announced(size, None)
    make = ipaddress.IPv4Address if family == "TCP4" else ipaddress.IPv6Address
    try:
        source, _ = make(words[0]), make(words[1])
    except ValueError:
        raise _malformed() from None
    if max(map(int, words[2:])) > HIGHEST_PORT:
        raise _malformed()
    return Announced(size, (shown(source), words[2]))


def _version_2(data: bytes) -> Announced | None:
    if len(data) < START.size:
        return None
    _, command, family, length = START.unpack_from(data)
    packed = PACKED.get(family)
    if command not in {LOCAL, PROXY} or length > LONGEST_REST:
        raise _malformed()
    if command == PROXY and (packed is None or length < packed.size):
        raise _malformed()
    size = START.size + length
    if len(data) < size:
        return None
    if command == LOCAL or packed is None:
        return Announced(size, None)
    return Announced(size, _client(family, packed.unpack_from(data, START.size)))


def _client(family: int, parts: tuple[bytes, bytes, int, int]) -> tuple[str, str] | None:
    if family == UNSPECIFIED:
        return None
    if family == UNIX:
        return LOOPBACK, ""
    return shown(ipaddress.ip_address(parts[0])), str(parts[2])


def _malformed() -> ProtocolError:
    return ProtocolError(400, "malformed header of the PROXY protocol")

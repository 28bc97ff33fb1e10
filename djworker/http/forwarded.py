"""What proxies say of a request, and what follows from it. Pure: variables in, variables out.

A peer is one of three. One that is *believed* (``forwarded_allow_ips``) says who its client is, with which scheme and port it
was asked, and below which path it serves the application. A *stranger's* words are removed, so that no application believes
them. Between the two is a peer that is *left to Django*: see ``Forwarding``.

A field that may be a list has its newest entry at its end. The client is the last entry that is not a proxy's (rightmost
untrusted): all before it is what the client itself may have written.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from djworker.conf.address import HIGHEST_PORT, PORT
from djworker.conf.peers import CACHED, Peers, shown
from djworker.http.grammar import TOKEN_PATTERN
from djworker.http.request import GUNICORNS_SCRIPT_NAME, HOST, NOT_KNOWN, KnownFields, ProtocolError, is_of_proxies

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Environ = dict[str, Any]
    # Variables that are set, with their values.
    Meaning = tuple[tuple[str, Any], ...]

__all__ = ["NOTHING_DECLARED", "Declared", "Forwarding", "Standing"]

FOR: Final = "HTTP_X_FORWARDED_FOR"
FORWARDED: Final = "HTTP_FORWARDED"
XHOST: Final = "HTTP_X_FORWARDED_HOST"
XPORT: Final = "HTTP_X_FORWARDED_PORT"
XPREFIX: Final = "HTTP_X_FORWARDED_PREFIX"
#: Fields that tell the scheme, and their words for https. The first three are gunicorn's (secure_scheme_headers).
SECURE: Final = {
    "HTTP_X_FORWARDED_PROTO": frozenset({"https", "wss", "ssl"}),
    "HTTP_X_FORWARDED_PROTOCOL": frozenset({"https", "wss", "ssl"}),
    "HTTP_X_FORWARDED_SSL": frozenset({"on"}),
    FORWARDED: frozenset({"https", "wss"}),
}
#: All that is looked at to find out what a believed peer says.
CONSIDERED: Final = (FOR, *SECURE, XHOST, XPORT, XPREFIX, "HTTP_HOST")
#: Characters of all of them together, and how many of these are cached with what they mean.
LONGEST: Final = 512
KNOWN: Final = 1024
LONGEST_NAME: Final = 64
PORTS: Final = {"https": "443", "http": "80"}
#: A path that may stand before any other in a link: absolute, without an empty first segment (//host is another server).
PREFIX: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9\-._~!$&'()*+,;=:@%]+)+")
#: RFC 7239 4, with what is often left unquoted (a port, an address of IPv6) and blanks around the separators.
PAIR: Final = re.compile(rf"""[ \t]*(?:({TOKEN_PATTERN})=(?:"((?:[^"\\]|\\.)*)"|([^\s;,"=]+)))?[ \t]*([;,]|$)""")
QUOTED: Final = re.compile(r"\\(.)")


class Standing(enum.Enum):
    """What a peer's words on its clients are worth."""

    BELIEVED = "believed"
    LEFT_TO_DJANGO = "left to Django"
    STRANGER = "stranger"


class Declared(NamedTuple):
    """What a project's settings say of proxies.

    variables: those that the project takes a proxy's word from, beside the usual ones. passes: the fields of peers that are not
    believed are left to Django, see ``Forwarding``.
    """

    variables: tuple[str, ...] = ()
    passes: bool = False


NOTHING_DECLARED: Final = Declared()


class Forwarding:
    """[worker] Who is believed, and what is done with what the others say.

    Args:
        peers: the value of ``forwarded_allow_ips``, canonical.
        left_to_django: the option was not given, and the project's settings trust a proxy that may be elsewhere. gunicorn
            hands the fields of such a proxy on; so it goes on working, and a check asks for the option.
        extra: variables that the project takes a proxy's word from, beside the usual ones.
    """

    def __init__(self, peers: Iterable[str], *, left_to_django: bool = False, extra: Iterable[str] = ()) -> None:
        self._peers = Peers(peers)
        self._others = Standing.LEFT_TO_DJANGO if left_to_django else Standing.STRANGER
        self._extra = frozenset(extra)
        # Variables that no proxy sets, as far as they have been seen.
        self._harmless: set[str] = set()
        # What a client's proxies say is the same for each of its requests.
        self._known: dict[tuple[str | None, ...], Meaning] = {}

    def standing(self, peer: str, *, unix: bool) -> Standing:
        """Judge a peer: once for each connection."""
        return Standing.BELIEVED if self._peers.have(peer, unix=unix) else self._others

    def heed(self, environ: Environ, standing: Standing, fields: KnownFields = NOT_KNOWN) -> list[str]:
        """Do with a proxy's fields what the peer's standing says; return the variables that were removed.

        fields: all that are in environ, where they are cached.

        Raises:
            ProtocolError: a believed peer contradicts itself, or says what cannot be.
        """
        if standing is Standing.BELIEVED:
            self._believe(environ, fields)
            return []
        # gunicorn's own field is never the application's.
        environ.pop(GUNICORNS_SCRIPT_NAME, None)
        if standing is Standing.LEFT_TO_DJANGO:
            return []
        others = environ.keys() - self._harmless
        removed = sorted(name for name in others if is_of_proxies(name) or name in self._extra)
        for name in removed:
            del environ[name]
        if len(self._harmless) < KNOWN:
            self._harmless.update(name for name in others.difference(removed) if len(name) <= LONGEST_NAME)
        return removed

    def _believe(self, environ: Environ, fields: KnownFields) -> None:
        meant: Meaning | None = fields.meaning
        if meant is None:
            if GUNICORNS_SCRIPT_NAME in environ:  # depends on the path too
                self._find_out(environ)
                return
            meant = self._looked_up(tuple(map(environ.get, CONSIDERED)))
            if fields is not NOT_KNOWN:
                fields.meaning = meant
        # Not update(): the dictionary would grow by all of them, though it has them.
        for name, value in meant:
            environ[name] = value

    def _looked_up(self, said: tuple[str | None, ...]) -> Meaning:
        meant = self._known.get(said)
        if meant is None:
            meant = self._meaning(said)
            if sum(len(value) for value in said if value is not None) <= LONGEST:
                self._learn(said, meant)
        return meant

    def _meaning(self, said: Sequence[str | None]) -> Meaning:
        """Find out what follows from these alone, so that it is the same in every request, whatever the peer is."""
        given = {name: value for name, value in zip(CONSIDERED, said, strict=True) if value is not None}
        found: Environ = dict(given)
        self._find_out(found)
        return tuple((name, value) for name, value in found.items() if given.get(name) != value)

    def _learn(self, said: tuple[str | None, ...], meant: Meaning) -> None:
        if len(self._known) >= KNOWN:
            self._known.clear()
        self._known[said] = meant

    def _find_out(self, environ: Environ) -> None:
        chain = [name for item in environ.get(FOR, "").split(",") if (name := item.strip())]
        nodes = _nodes(environ[FORWARDED]) if FORWARDED in environ else []
        if nodes and chain and _is_older(nodes, chain):
            nodes = []
        place = self._client(environ, chain, nodes)
        node = _speaker(nodes, place)
        _host(environ, chain, place, node)
        scheme = _scheme(environ, chain, place, node)
        if scheme:
            environ["wsgi.url_scheme"] = scheme
        _port(environ, chain, place, scheme)
        _prefix(environ, _said(environ, XPREFIX, chain, place))
        _script_name(environ)

    def _client(self, environ: Environ, chain: Sequence[str], nodes: Sequence[dict[str, str]]) -> int:
        """Set who the client is; return its place in the list from the end, 0 where the list does not tell."""
        place, client = self._untrusted(chain)
        names = [node.get("for", "") for node in nodes]
        its_place, its_client = self._untrusted(names)
        if client and its_client and client[0] != its_client[0]:
            raise ProtocolError(400, "X-Forwarded-For and Forwarded name different clients")
        found = client or its_client
        if found:
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = found
        return place or its_place

    def _untrusted(self, names: Sequence[str]) -> tuple[int, tuple[str, str] | None]:
        """Return the last that is no proxy's, or else the first before which there is nothing that can be read."""
        place, client = 0, None
        for number, name in enumerate(reversed(names), 1):
            found = _address(name)
            if found is None:
                break
            place, client = number, found
            if not self._peers.names(found[0]):
                break
        return place, client


def _nodes(text: str) -> list[dict[str, str]]:
    """Read a Forwarded field (RFC 7239 4): parameters by name, the nearest proxy's last."""
    nodes: list[dict[str, str]] = [{}]
    place = 0
    while place < len(text):
        match = PAIR.match(text, place)
        if match is None:
            raise ProtocolError(400, "malformed Forwarded")
        name, quoted, word, separator = match.groups()
        if name is not None:
            name = name.lower()
            if name in nodes[-1]:
                raise ProtocolError(400, "malformed Forwarded")
            nodes[-1][name] = QUOTED.sub(r"\1", quoted) if quoted is not None else word
        if separator == ",":
            nodes.append({})
        place = match.end()
    return [node for node in nodes if node]


def _is_older(nodes: Sequence[dict[str, str]], chain: Sequence[str]) -> bool:
    """Tell whether X-Forwarded-For goes on where Forwarded ends: nearer proxies have added to the former alone."""
    names = [_address(node.get("for", "")) for node in nodes]
    return len(names) < len(chain) and names == [_address(name) for name in chain[: len(names)]]


@lru_cache(CACHED)
def _address(name: str) -> tuple[str, str] | None:
    """Return address and port of a node; None for ``unknown``, a hidden one (RFC 7239 6.3), or no address at all."""
    port = ""
    if name.startswith("["):
        name, _, port = name[1:].partition("]")
        port = port.removeprefix(":")
    elif name.count(":") == 1:
        name, _, port = name.partition(":")
    try:
        address = shown(ipaddress.ip_address(name))
    except ValueError:
        return None
    return None if "%" in address else (address, port if PORT.fullmatch(port) else "")


def _speaker(nodes: Sequence[dict[str, str]], place: int) -> dict[str, str]:
    """Return what the proxy said that the client asked; without a client, what the nearest one said."""
    if not nodes:
        return {}
    return nodes[-place] if 0 < place <= len(nodes) else nodes[-1]


def _said(environ: Environ, variable: str, chain: Sequence[str], place: int) -> str:
    """Return a field's one value. Of a list as long as the list of clients it is the one at the client's place."""
    value: str = environ.get(variable, "")
    if "," not in value:
        return value.strip()
    items = [item.strip() for item in value.split(",")]
    if len({item.lower() for item in items}) == 1:
        value = items[0]
    elif place and len(items) == len(chain):
        value = items[-place]
    else:
        raise ProtocolError(400, f"contradicting {variable}")
    environ[variable] = value
    return value


def _scheme(environ: Environ, chain: Sequence[str], place: int, node: dict[str, str]) -> str:
    schemes = set()
    for variable, words in SECURE.items():
        value = node.get("proto", "") if variable is FORWARDED else _said(environ, variable, chain, place)
        if value:
            schemes.add("https" if value.lower() in words else "http")
    if len(schemes) > 1:
        raise ProtocolError(400, "contradicting schemes of a proxy")
    return schemes.pop() if schemes else ""


def _host(environ: Environ, chain: Sequence[str], place: int, node: dict[str, str]) -> None:
    """Check the host that was asked for. Django decides whether it counts (USE_X_FORWARDED_HOST), from one variable."""
    value, other = _said(environ, XHOST, chain, place), node.get("host", "")
    if value and other and value.lower() != other.lower():
        raise ProtocolError(400, "contradicting hosts of a proxy")
    value = value or other
    if not value:
        return
    if not HOST.fullmatch(value):
        raise ProtocolError(400, "invalid host of a proxy")
    environ[XHOST] = value


def _port(environ: Environ, chain: Sequence[str], place: int, scheme: str) -> None:
    """Set the port that the client asked: the one that is said, or the host's, or the scheme's usual one."""
    value = _said(environ, XPORT, chain, place)
    if value:
        if not PORT.fullmatch(value) or int(value) > HIGHEST_PORT:
            raise ProtocolError(400, "invalid X-Forwarded-Port")
        environ["SERVER_PORT"] = value
    elif scheme:
        host: str = environ.get(XHOST) or environ.get("HTTP_HOST", "")
        environ["SERVER_PORT"] = host.rpartition("]")[2].partition(":")[2] or PORTS[scheme]


def _prefix(environ: Environ, value: str) -> None:
    """Set SCRIPT_NAME to what the proxy has taken off the path."""
    value = value.rstrip("/") if value != "//" else value
    if not value:
        return
    if not PREFIX.fullmatch(value):
        raise ProtocolError(400, "invalid X-Forwarded-Prefix")
    environ["SCRIPT_NAME"] = unquote_to_bytes(value).decode("latin-1")


def _script_name(environ: Environ) -> None:
    """Do what gunicorn does with a field called SCRIPT_NAME: the path still has it at its beginning."""
    value = environ.pop(GUNICORNS_SCRIPT_NAME, "").strip()
    if not value:
        return
    _prefix(environ, value)
    script, path = environ["SCRIPT_NAME"], environ["PATH_INFO"]
    if path != script and not path.startswith(f"{script}/"):
        raise ProtocolError(400, "a path that does not begin with SCRIPT_NAME")
    environ["PATH_INFO"] = path[len(script) :]

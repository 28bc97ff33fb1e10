"""Request heads: bytes to CGI variables, or a refusal.

llhttp (through httptools) tokenises and validates; the policy is here. Two decisions make the policy simple:

* A head is fed to llhttp only when it is there as a whole, and nothing after it is. So limits are measured on the bytes
  that came in, whatever packets they came in (aiohttp GHSA-63hw-fmq6-xxg2), pipelined requests wait in the buffer
  (GHSA-4fvr-rgm6-gqmc), and a body, its trailers, or what follows an Upgrade is never taken for a head.
* Each head gets a parser of its own (0.4 µs). Nothing of one connection can show in another.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

import httptools
from httptools import HttpRequestParser

from djworker.http.grammar import CRLF, TOKEN
from djworker.http.head_cache import COOKIE, REFERER, Memory, without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["HeadParser", "ProtocolError", "RequestHead", "is_of_proxies"]

#: RFC 3986 uri-host and port, without the empty host that RFC 9110 4.2.1 refuses, and without the comma: two Host fields that
#: a proxy has joined look like that.
HOST: Final = re.compile(
    r"(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})+(?::[0-9]{0,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{0,5})?"
)
ABSOLUTE: Final = re.compile(r"https?://([^/?]*)(.*)", re.IGNORECASE | re.DOTALL)
VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
#: Not of a line that has nothing else: that would be folding.
TRAILING_BLANKS: Final = re.compile(rb"(?<=[^ \t\r\n])[ \t]+\r\n")

TAB: Final = 9
METHODS: Final = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
#: A name is cached under its exact spelling. A client can invent names, so the cache has a size.
CACHED_NAMES: Final = 512
CACHED_NAME_LENGTH: Final = 64
CACHED_HOSTS: Final = 256
#: Options of Connection that say nothing new in HTTP/1.1.
PERSISTENT: Final = frozenset({"keep-alive", "Keep-Alive"})
#: Two of these are a disagreement about who asks for what, not a list.
SINGLETONS: Final = frozenset({"HTTP_HOST", "CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_AUTHORIZATION"})
#: A field whose name has an underscore, which gunicorn takes from proxies that it believes. No application sees it.
GUNICORNS_SCRIPT_NAME: Final = "djworker.script_name"
#: What a proxy says of its client, in one value each. A second field with another is a client's own, beside which the proxy has
#: put the true one: as a list they would be read at the wrong end. X-Forwarded-For and Forwarded (RFC 7239 7.1) are lists.
OF_PROXIES: Final = frozenset(
    f"HTTP_{name}"
    for name in (
        "CF_CONNECTING_IP",
        "FRONT_END_HTTPS",
        "TRUE_CLIENT_IP",
        "X_CLIENT_IP",
        "X_FORWARDED_HOST",
        "X_FORWARDED_PORT",
        "X_FORWARDED_PREFIX",
        "X_FORWARDED_PROTO",
        "X_FORWARDED_PROTOCOL",
        "X_FORWARDED_SCHEME",
        "X_FORWARDED_SERVER",
        "X_FORWARDED_SSL",
        "X_REAL_IP",
        "X_SCHEME",
        "X_SCRIPT_NAME",
        "X_URL_SCHEME",
    )
) | {GUNICORNS_SCRIPT_NAME}
FAMILY_OF_PROXIES: Final = "HTTP_X_FORWARDED_"
#: What proxies say in lists.
LISTS_OF_PROXIES: Final = frozenset({"HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR"})
#: In the environ of a request that has a field of a proxy's.
FORWARDED: Final = "djworker.forwarded"


class KnownFields:
    """[worker] A cached block of fields, in the variable FORWARDED of each request that has it.

    meaning: what follows from it where a proxy is believed, as soon as that has been found out.
    """

    __slots__ = ("meaning",)

    def __init__(self) -> None:
        self.meaning: Any = None


#: Of fields that are not cached; it never has a meaning.
NOT_KNOWN: Final = KnownFields()
#: 2**63 is 19 digits: longer lengths overflow somewhere behind us.
MAX_LENGTH_DIGITS: Final = 18


class ProtocolError(Exception):
    """What a client sent cannot be served. Remedy: the client's.

    status: the code to answer with, after which the connection ends, because what follows cannot be trusted.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class RequestHead:
    """[worker] What the server itself has to know of a request's head; the rest is in the CGI variables."""

    method = target = ""
    # Of HTTP/1.x.
    minor = 1
    keep_alive = True
    # Of the body: its length in bytes, unless it is chunked; whether the client waits for a 100 before sending it.
    length = 0
    chunked = expects = False


class HeadParser:
    """[worker] Turns complete heads into CGI variables (RFC 3875 4.1). One per worker: it keeps only caches.

    max_fields, max_field, max_line: the limit_request_* options, in fields and bytes.
    max_body: in bytes, 0 for no limit. of_proxies: variables that only a proxy may set, beside the usual ones.
    """

    def __init__(
        self, *, max_line: int, max_fields: int, max_field: int, max_body: int = 0, of_proxies: Iterable[str] = ()
    ) -> None:
        self._max_line = max_line
        self._max_fields = max_fields
        self._max_field = max_field
        self._max_body = max_body
        self._always_short = min(max_line, max_field)
        self._variables: dict[bytes, str] = {}
        self._of_proxies = OF_PROXIES.union(of_proxies)
        # Those spellings among the variables' that are of proxies: empty where there is no proxy.
        self._spellings: set[bytes] = set()
        self._hosts: set[str] = set()
        self._memory = Memory()
        # llhttp's callback.
        self.on_header: Callable[[bytes, bytes], object] = _ignore

    def parse(self, head: bytes, environ: dict[str, Any], request: RequestHead) -> None:
        """Fill environ and request from a head.

        head: from the method's first byte to the empty line's last. environ, request: are changed, also where
        ProtocolError is raised.
        """
        memory = self._memory
        known = memory.heads.get(head)
        if known is not None:
            request.method, request.target, variables = known
            environ.update(variables)
            return
        end = head.find(CRLF)
        usual = _request_line(head[:end], environ, request)
        block, cookie = without(head[end:], COOKIE)
        block, referer = without(block, REFERER)
        fields = memory.blocks.get(block)
        if not usual or fields is None or len(head) > self._always_short:
            self._parse(head, environ, request)
            if not _is_for_once(environ, request) and memory.came_before(block):
                self._learn(block)
            return
        environ.update(fields)
        if cookie:
            environ["HTTP_COOKIE"] = cookie
        if referer:
            environ["HTTP_REFERER"] = referer
        if not cookie and not referer and memory.came_before(head):
            variables = dict(fields)
            _request_line(head[:end], variables, request)
            memory.learn_head(head, request.method, request.target, variables)

    def _learn(self, block: bytes) -> None:
        """Cache a block of fields, if it can follow any request line and says nothing of a body."""
        variables: dict[str, Any] = {}
        request = RequestHead()
        request.target = "/"
        try:
            self._parse(b"GET / HTTP/1.1" + block, variables, request)
        except ProtocolError:
            return
        if FORWARDED in variables:
            variables[FORWARDED] = KnownFields()
        # Two fields less than there may be, for those that were taken out.
        few = block.count(CRLF) - 2 <= self._max_fields - 2
        if few and request.keep_alive and not (request.length or request.chunked or request.expects):
            self._memory.learn_block(block, variables)

    def _parse(self, head: bytes, environ: dict[str, Any], request: RequestHead) -> None:
        """Add the fields, and find out what they mean for the request, whose line has been read."""
        self._fields(head, environ)
        host = environ.get("HTTP_HOST")
        if host not in self._hosts:
            self._check_host(host, request)
        if not request.target.startswith("/"):
            _other_target(request, environ)
        options = environ.get("HTTP_CONNECTION")
        if options is not None and (options not in PERSISTENT or not request.minor):
            _connection(request, options)
        if "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ:
            self._framing(request, environ)
        if "HTTP_EXPECT" in environ:
            _expectation(request, environ["HTTP_EXPECT"])

    def _check_lengths(self, lines: Iterable[bytes]) -> None:
        limit, status, reason = self._max_line, 414, "request line too long"
        for line in lines:
            if len(line) > limit:
                raise ProtocolError(status, reason)
            limit, status, reason = self._max_field, 431, "header field too long"

    def _fields(self, head: bytes, environ: dict[str, Any]) -> None:
        """Add the fields' variables.

        The usual head has known names, each of them once: then llhttp can call the dictionary itself, and a count tells
        whether that was right.
        """
        # llhttp refuses a bare CR or LF, so this is the number of lines.
        count = head.count(b"\n") - 2
        if count > self._max_fields:
            raise ProtocolError(431, "too many header fields")
        if len(head) > self._always_short:
            self._check_lengths(head.split(CRLF))
        if TAB in head:
            # llhttp refuses "chunked<TAB>"; it leaves other blanks at the end to us.
            head = _without_trailing_blanks(head)
        variables, before = self._variables, len(environ)
        fields: dict[bytes, bytes] = {}
        self.on_header = fields.setdefault
        try:
            HttpRequestParser(self).feed_data(head)
            for name, value in fields.items():
                environ[variables[name]] = value.strip().decode("latin-1")
        except (KeyError, httptools.HttpParserError, httptools.HttpParserUpgrade):
            pass
        else:
            if len(environ) - before == count:
                if self._spellings and not self._spellings.isdisjoint(fields):
                    environ[FORWARDED] = NOT_KNOWN
                return
        for variable in list(environ)[before:]:
            del environ[variable]
        self._add_all(head, environ, before)

    def _add_all(self, head: bytes, environ: dict[str, Any], before: int) -> None:
        """Add fields that may be repeated, or unknown. before: the number of variables that are not fields'."""
        for name, value in self._tokenised(head):
            self._add(name, value.strip().decode("latin-1"), environ)
        if any(map(self._is_of_proxies, list(environ)[before:])):
            environ[FORWARDED] = NOT_KNOWN

    def _tokenised(self, head: bytes) -> list[tuple[bytes, bytes]]:
        """Return the fields as they came."""
        pairs: list[tuple[bytes, bytes]] = []
        self.on_header = lambda name, value: pairs.append((name, value))
        try:
            HttpRequestParser(self).feed_data(head)
        except httptools.HttpParserUpgrade:
            # A protocol that we do not speak was offered; RFC 9110 7.8 lets us answer as if it had not been.
            pass
        except httptools.HttpParserInvalidMethodError as error:
            raise ProtocolError(501, "unknown method") from error
        except httptools.HttpParserError as error:
            raise ProtocolError(400, str(error)) from error
        return pairs

    def _add(self, name: bytes, value: str, environ: dict[str, Any]) -> None:
        """Add a field. Join as RFC 9110 5.2 says, cookies as RFC 6265 says, and refuse what cannot be a list."""
        variable = self._variables.get(name) or self._variable(name)
        if variable is None:
            return
        if variable not in environ:
            environ[variable] = value
            return
        if variable in SINGLETONS:
            raise ProtocolError(400, f"repeated {variable}")
        if variable in self._of_proxies:
            if value.lower() != environ[variable].lower():
                raise ProtocolError(400, f"contradicting {variable}")
            return
        environ[variable] += ("; " if variable == "HTTP_COOKIE" else ",") + value

    def _variable(self, name: bytes) -> str | None:
        variable = _variable_name(name)
        if variable and len(self._variables) < CACHED_NAMES and len(name) <= CACHED_NAME_LENGTH:
            self._variables[name] = variable
            if self._is_of_proxies(variable):
                self._spellings.add(name)
        return variable

    def _is_of_proxies(self, variable: str) -> bool:
        return variable in self._of_proxies or is_of_proxies(variable)

    def _check_host(self, host: str | None, request: RequestHead) -> None:
        """RFC 9112 3.2: exactly one valid Host in HTTP/1.1."""
        if host is None:
            if request.minor:
                raise ProtocolError(400, "no Host field")
            return
        if not HOST.fullmatch(host):
            raise ProtocolError(400, "invalid Host field")
        if len(self._hosts) < CACHED_HOSTS and len(host) <= CACHED_NAME_LENGTH:
            self._hosts.add(host)

    def _framing(self, request: RequestHead, environ: dict[str, Any]) -> None:
        """RFC 9112 6.3, without any of the repairs that it allows."""
        length, codings = environ.get("CONTENT_LENGTH"), environ.get("HTTP_TRANSFER_ENCODING")
        if codings is not None:
            if length is not None:
                raise ProtocolError(400, "both Content-Length and Transfer-Encoding")
            if not request.minor:
                raise ProtocolError(400, "Transfer-Encoding in HTTP/1.0")
            _check_codings(codings)
            request.chunked = True
        elif length is not None:
            if not (length.isascii() and length.isdigit() and len(length) <= MAX_LENGTH_DIGITS):
                raise ProtocolError(400, "invalid Content-Length")
            request.length = int(length)
            if self._max_body and request.length > self._max_body:
                raise ProtocolError(413, "body too long")


def _ignore(name: bytes, value: bytes) -> None:
    """Take a field from llhttp before there is a request."""


def _request_line(line: bytes, environ: dict[str, Any], request: RequestHead) -> bool:
    """Read a request line; say whether llhttp need not see it, because it is of the usual kind and there is no doubt."""
    try:
        method, target, version = line.split(b" ")
        environ["REQUEST_METHOD"] = request.method = METHODS.get(method) or _method(method)
        environ["RAW_URI"] = environ["PATH_INFO"] = request.target = text = target.decode("ascii")
    except ValueError:
        words = line.split(b" ")
        if len(words) > 1:  # for the log
            environ["RAW_URI"] = request.target = words[1].decode("latin-1")
        raise ProtocolError(400, "malformed request line") from None
    usual = version == b"HTTP/1.1"
    if not usual:
        _other_version(version, request, environ)
    if "?" in text or "%" in text or "#" in text:
        _split_target(text, environ)
    return usual and method in METHODS and text[:1] == "/" and text.isprintable()


def _is_for_once(environ: dict[str, Any], request: RequestHead) -> bool:
    """Tell whether a head's fields are never cached, so that each request with them need not be parsed to learn them."""
    return bool(request.length) or request.chunked or not request.keep_alive or "HTTP_AUTHORIZATION" in environ


def _method(method: bytes) -> str:
    """Return a rarer method. llhttp skips line ends before it, we do not; it knows which of them there are."""
    text = method.decode("latin-1")
    if not TOKEN.fullmatch(text):
        raise ProtocolError(400, "malformed request line")
    return text


def _other_version(version: bytes, request: RequestHead, environ: dict[str, Any]) -> None:
    if version == b"HTTP/1.0":
        environ["SERVER_PROTOCOL"] = "HTTP/1.0"
        request.minor = 0
        request.keep_alive = False
    elif VERSION.fullmatch(version):
        raise ProtocolError(505, "only HTTP/1.0 and HTTP/1.1 are served")
    else:
        raise ProtocolError(400, "malformed request line")


def _split_target(target: str, environ: dict[str, Any]) -> None:
    if "#" in target:
        raise ProtocolError(400, "fragment in the request target")
    path, _, environ["QUERY_STRING"] = target.partition("?")
    environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path


def is_of_proxies(variable: str) -> bool:
    """Tell whether a variable is what a proxy says of its client."""
    return variable in OF_PROXIES or variable in LISTS_OF_PROXIES or variable.startswith(FAMILY_OF_PROXIES)


def _variable_name(name: bytes) -> str | None:
    """Return the CGI variable of a field; None for a field that is dropped.

    X_Auth_User and X-Auth-User would be one variable: the proxy in front guards the second, so the first is dropped, as
    nginx and gunicorn do. Proxy would be HTTP_PROXY, by which libraries find the proxy to use (CVE-2016-5387).
    """
    text = name.decode("latin-1").upper()
    if text == "SCRIPT_NAME":
        return GUNICORNS_SCRIPT_NAME
    if "_" in text or text == "PROXY":
        return None
    variable = text.replace("-", "_")
    return variable if variable in ("CONTENT_LENGTH", "CONTENT_TYPE") else "HTTP_" + variable


def _without_trailing_blanks(head: bytes) -> bytes:
    """Cut blanks at the end of fields."""
    line, end, fields = head.partition(CRLF)
    return line + end + TRAILING_BLANKS.sub(CRLF, fields)


def _other_target(request: RequestHead, environ: dict[str, Any]) -> None:
    """RFC 9112 3.2.2 to 3.2.4: absolute, authority and asterisk form."""
    target = request.target
    if request.method == "CONNECT":
        raise ProtocolError(501, "not a proxy")
    if target == "*" and request.method == "OPTIONS":
        return
    absolute = ABSOLUTE.fullmatch(target)
    if absolute is None or not HOST.fullmatch(absolute[1]):
        raise ProtocolError(400, "invalid request target")
    # "MUST ignore the received Host header field and instead use the host information of the request-target"
    environ["HTTP_HOST"] = absolute[1]
    path, _, query = absolute[2].partition("?")
    environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") or "/"
    environ["QUERY_STRING"] = query


def _connection(request: RequestHead, options: str) -> None:
    tokens = {token.strip(" \t") for token in options.lower().split(",")}
    request.keep_alive = "close" not in tokens and (request.minor == 1 or "keep-alive" in tokens)


def _check_codings(codings: str) -> None:
    """Accept chunked alone. Another well-formed coding before it is 501 (RFC 9112 6.1), everything else 400."""
    tokens = [token.strip(" \t").lower() for token in codings.split(",")]
    if tokens == ["chunked"]:
        return
    well_formed = all(TOKEN.fullmatch(token) for token in tokens)
    if well_formed and tokens[-1] == "chunked" and tokens.count("chunked") == 1:
        raise ProtocolError(501, "transfer coding not supported")
    raise ProtocolError(400, "invalid Transfer-Encoding")


def _expectation(request: RequestHead, expectation: str) -> None:
    """RFC 9110 10.1.1: ignored in HTTP/1.0, and an unknown one may be refused."""
    if not request.minor:
        return
    if expectation.lower() != "100-continue":
        raise ProtocolError(417, "unknown expectation")
    request.expects = request.chunked or request.length > 0

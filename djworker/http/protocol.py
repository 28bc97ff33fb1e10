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

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["HeadParser", "ProtocolError", "RequestHead"]

CRLF: Final = b"\r\n"
NOT_CONTROL: Final = bytes(byte for byte in range(256) if (byte >= 0x20 and byte != 0x7F) or byte == 0x09)
TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 3986 uri-host and port, without the empty host that RFC 9110 4.2.1 refuses.
HOST: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+(?::[0-9]{0,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{0,5})?")
ABSOLUTE: Final = re.compile(r"https?://([^/?]*)(.*)", re.IGNORECASE | re.DOTALL)
VERSION: Final = re.compile(r"HTTP/[0-9]\.[0-9]")
TRAILING_BLANKS: Final = re.compile(rb"[ \t]+\r\n")

# A name is cached under its exact spelling. A client can invent names, so the cache has a size.
CACHED_NAMES: Final = 512
CACHED_NAME_LENGTH: Final = 64
CACHED_HOSTS: Final = 256
# Two of these are a disagreement about who asks for what, not a list.
SINGLETONS: Final = frozenset({"HTTP_HOST", "CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_AUTHORIZATION"})
# 2**63 is 19 digits: longer lengths overflow somewhere behind us.
MAX_LENGTH_DIGITS: Final = 18

# Fields that are dropped go to a variable that is always there already, and that no field can be.
NO_VARIABLE: Final = "REQUEST_METHOD"


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

    __slots__ = ("chunked", "expects", "keep_alive", "length", "method", "minor", "target")

    method: str
    target: str
    minor: int
    keep_alive: bool
    length: int
    chunked: bool
    expects: bool

    def __init__(self, method: str, target: str, minor: int) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.length = 0
        self.chunked = False
        self.expects = False


class HeadParser:
    """[worker] Turns complete heads into CGI variables (RFC 3875 4.1). One per worker: it keeps only caches.

    max_fields, max_field, max_line: the limit_request_* options, in fields and bytes.
    max_body: in bytes, 0 for no limit.
    """

    def __init__(self, *, max_line: int, max_fields: int, max_field: int, max_body: int = 0) -> None:
        self._max_line = max_line
        self._max_fields = max_fields
        self._max_field = max_field
        self._max_body = max_body
        self._always_short = min(max_line, max_field)
        self._variables: dict[bytes, str] = {}
        self._hosts: set[str] = set()
        self._environ: dict[str, Any] = {}
        self._refusal: ProtocolError | None = None

    def parse(self, head: bytes, environ: dict[str, Any]) -> RequestHead:
        """Fill environ from a head and return what the server needs of it.

        head: from the method's first byte to the empty line's last. environ: is changed, also where ProtocolError is
        raised.
        """
        self._check_bytes(head)
        request = self._request_line(head[: head.index(CRLF)].decode("latin-1"), environ)
        self._fields(head, environ)
        host = environ.get("HTTP_HOST")
        if host not in self._hosts:
            self._check_host(host, request)
        if request.target[0] != "/":
            _other_target(request, environ)
        _connection(request, environ.get("HTTP_CONNECTION"))
        if "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ:
            self._framing(request, environ)
        if "HTTP_EXPECT" in environ:
            _expectation(request, environ["HTTP_EXPECT"])
        return request

    def _check_bytes(self, head: bytes) -> None:
        """Refuse bare CR, bare LF, NUL and every other control character, and what is too long."""
        lines = head.count(CRLF)
        # As many control characters as there are in line ends: then each of them is in one.
        if len(head.translate(None, NOT_CONTROL)) != 2 * lines:
            raise ProtocolError(400, "control character in the head")
        if lines - 2 > self._max_fields:
            raise ProtocolError(431, "too many header fields")
        if len(head) > self._always_short:
            self._check_lengths(head.split(CRLF))

    def _check_lengths(self, lines: Iterable[bytes]) -> None:
        limit, status, reason = self._max_line, 414, "request line too long"
        for line in lines:
            if len(line) > limit:
                raise ProtocolError(status, reason)
            limit, status, reason = self._max_field, 431, "header field too long"

    def _request_line(self, line: str, environ: dict[str, Any]) -> RequestHead:
        """RFC 9112 3: method SP request-target SP HTTP-version, and not one blank more."""
        parts = line.split(" ")
        if len(parts) != 3 or not parts[1]:  # noqa: PLR2004
            raise ProtocolError(400, "malformed request line")
        method, target, version = parts
        if version == "HTTP/1.1":
            request = RequestHead(method, target, 1)
        elif version == "HTTP/1.0":
            request = RequestHead(method, target, 0)
            environ["SERVER_PROTOCOL"] = version
        else:
            raise _bad_version(version)
        if not target.isascii() or "#" in target:
            raise ProtocolError(400, "character not allowed in the request target")
        path, _, query = target.partition("?")
        environ["REQUEST_METHOD"] = method
        environ["RAW_URI"] = target
        environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path
        environ["QUERY_STRING"] = query
        return request

    def _fields(self, head: bytes, environ: dict[str, Any]) -> None:
        if b" \r\n" in head or b"\t\r\n" in head:
            head = _without_trailing_blanks(head)
        self._environ = environ
        self._refusal = None
        try:
            httptools.HttpRequestParser(self).feed_data(head)
        except httptools.HttpParserUpgrade:
            # A protocol that we do not speak was offered; RFC 9110 7.8 lets us answer as if it had not been.
            pass
        except httptools.HttpParserInvalidMethodError as error:
            known = TOKEN.fullmatch(environ["REQUEST_METHOD"])
            raise ProtocolError(501 if known else 400, "unknown method") from error
        except httptools.HttpParserError as error:
            raise ProtocolError(400, str(error)) from error
        if self._refusal is not None:
            raise self._refusal

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one field from llhttp."""
        variable = self._variables.get(name)
        if variable is None:
            variable = self._variable(name)
        environ = self._environ
        if variable not in environ:
            environ[variable] = value.decode("latin-1")
        elif variable is not NO_VARIABLE:
            self._repeated(variable, value.decode("latin-1"))

    def _variable(self, name: bytes) -> str:
        variable = _variable_name(name)
        if len(self._variables) < CACHED_NAMES and len(name) <= CACHED_NAME_LENGTH:
            self._variables[name] = variable
        return variable

    def _repeated(self, variable: str, value: str) -> None:
        """Join as RFC 9110 5.2 says, cookies as RFC 6265 says, and refuse what cannot be a list."""
        if variable in SINGLETONS:
            self._refusal = ProtocolError(400, f"repeated {variable}")
            return
        separator = "; " if variable == "HTTP_COOKIE" else ","
        self._environ[variable] += separator + value

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


def _variable_name(name: bytes) -> str:
    """Return the CGI variable of a field; NO_VARIABLE for a field that is dropped.

    X_Auth_User and X-Auth-User would be one variable: the proxy in front guards the second, so the first is dropped, as
    nginx and gunicorn do. Proxy would be HTTP_PROXY, by which libraries find the proxy to use (CVE-2016-5387).
    """
    text = name.decode("latin-1").upper()
    if "_" in text or text == "PROXY":
        return NO_VARIABLE
    variable = text.replace("-", "_")
    return variable if variable in ("CONTENT_LENGTH", "CONTENT_TYPE") else "HTTP_" + variable


def _without_trailing_blanks(head: bytes) -> bytes:
    """Cut blanks at the end of fields, which llhttp leaves on the value (and then refuses "chunked<TAB>")."""
    line, end, fields = head.partition(CRLF)
    return line + end + TRAILING_BLANKS.sub(CRLF, fields)


def _bad_version(version: str) -> ProtocolError:
    if VERSION.fullmatch(version):
        return ProtocolError(505, "only HTTP/1.0 and HTTP/1.1 are served")
    return ProtocolError(400, "malformed request line")


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


def _connection(request: RequestHead, options: str | None) -> None:
    if options is None:
        request.keep_alive = request.minor == 1
        return
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

"""One client with its cookies, as a browser has them."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import quote, urlencode, urljoin, urlsplit

#: Seconds for one answer. A page of the application that takes longer hangs.
_WITHIN: Final = 120
_TOKEN: Final = re.compile(rb"""name=["']csrfmiddlewaretoken["'][^>]*?value=["']([^"']+)["']""")
#: RFC 3986 2.2, and what is encoded already.
_IN_A_URL: Final = ":/?#[]@!$&'()*+,;=%"
#: Attributes that a browser follows by itself, or with a click.
_LINKS: Final = {"a": "href", "link": "href", "img": "src", "script": "src", "iframe": "src"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came. status 0: nothing did, and the body says why."""

    status: int
    kind: str
    location: str
    body: bytes


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name == _LINKS.get(tag) and value]


class Visitor:
    """A client of one server. It keeps its connection where the server does; an answer that is lost is a finding."""

    def __init__(self, host: str, port: int, headers: Mapping[str, str] | None = None) -> None:
        self._address = (host, port)
        self._connection: http.client.HTTPConnection | None = None
        self._headers = {
            "Host": f"{host}:{port}",
            "Accept": "text/html,*/*",
            "Accept-Language": "en",
            **(headers or {}),
        }
        self.cookies: dict[str, str] = {}

    @property
    def origin(self) -> str:
        """Its server."""
        return f"http://{self._headers['Host']}"

    def get(self, path: str) -> Answer:
        """Ask for a page."""
        return self._ask("GET", path, None)

    def post(self, path: str, fields: Mapping[str, str]) -> Answer:
        """Send a form."""
        return self._ask("POST", path, urlencode(fields).encode())

    def log_in(self, path: str, fields: Mapping[str, str]) -> bool:
        """Fill in the form at *path*; whether the answer leads elsewhere, as that to a right password does."""
        token = _TOKEN.search(self.get(path).body)
        found = {"csrfmiddlewaretoken": token.group(1).decode()} if token else {}
        answer = self.post(path, {**found, **fields})
        return answer.status in (301, 302, 303) and "session" in " ".join(self.cookies)

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, method: str, path: str, body: bytes | None) -> Answer:
        headers = {**self._headers, "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if body is not None:
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Referer": urljoin(self.origin, path)}
        try:
            response = self._send(method, path, body, headers)
            answer = Answer(
                response.status,
                (response.headers.get("Content-Type") or ""),
                (response.headers.get("Location") or "").removeprefix(self.origin),
                response.read(),
            )
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Answer(0, "", "", f"{type(error).__name__}: {error}".encode())
        self._keep(response.headers.get_all("Set-Cookie") or [])
        if response.will_close:
            self.close()
        return answer

    def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """Ask on the kept connection; where the server has closed it meanwhile, as it may (RFC 9112, 9.3.1), on another one."""
        kept = self._connection
        if kept is not None:
            try:
                kept.request(method, path, body, dict(headers))
                return kept.getresponse()
            except (http.client.RemoteDisconnected, ConnectionError):
                self.close()
        self._connection = http.client.HTTPConnection(*self._address, timeout=_WITHIN)
        self._connection.request(method, path, body, dict(headers))
        return self._connection.getresponse()

    def _keep(self, lines: list[str]) -> None:
        for line in lines:
            try:
                jar = SimpleCookie(line)
            except CookieError:
                continue
            for name, morsel in jar.items():
                if morsel["max-age"] == "0" or not morsel.value:
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.coded_value


def links(answer: Answer, origin: str, path: str) -> Iterator[str]:
    """Each path of the same site that the page leads to."""
    found = [answer.location] if answer.location else []
    if answer.kind.startswith("text/html"):
        parser = _Links()
        parser.feed(answer.body.decode(errors="replace"))
        found += parser.found
    for link in found:
        parts = urlsplit(urljoin(f"{origin}{path}", link.strip()))
        if f"{parts.scheme}://{parts.netloc}" == origin:
            # A browser encodes what stands in a link as it is: a space, say, which no request may have.
            yield quote(f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}", safe=_IN_A_URL)

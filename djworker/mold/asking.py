"""[mold, a child of it] Asking the application for a path, without a client: what it answers, and what it raised meanwhile."""

from __future__ import annotations

import contextlib
import io
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes, urlsplit

from djworker.db.drivers import turns
from djworker.mold import blame

#: Bytes of an answer that are read, and seconds after its first piece: a stream without an end is an answer, too.
_MOST_READ: Final = 1 << 20
_LONGEST_READ: Final = 1.0
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_MOST_REDIRECTS: Final = 3


@dataclass(frozen=True, slots=True)
class PageReply:
    """What the application answers. error: what Django has turned into this answer, where it was an exception."""

    status: str
    location: str = ""
    error: BaseException | None = None

    @property
    def code(self) -> int:
        """The number of the status."""
        return int(self.status.split(" ", 1)[0])

    def __str__(self) -> str:
        return f"{self.status}: {blame.sentence(self.error)}" if self.error is not None else self.status

    @property
    def traceback(self) -> str:
        """The exception's own; empty without one."""
        return "".join(traceback.format_exception(self.error)) if self.error is not None else ""


def get(app: Callable[..., Any], path: str, **extra: Any) -> PageReply:
    """Request a path. extra: what else the environ is to have.

    Raises:
        Exception: what the application raises past Django's own handling.
    """
    headers: dict[str, str] = {}
    statuses: list[str] = []

    def start_response(status: str, fields: Any, _exc_info: Any = None) -> Callable[[bytes], None]:
        statuses.append(status)
        headers.update((name.lower(), value) for name, value in fields)
        return lambda _data: None

    with _noting_exceptions() as errors:
        body = app({**_environ(path), **extra}, start_response)
        try:
            _read(iter(body))
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()
    reply = PageReply(statuses[-1], headers.get("location", ""))
    return PageReply(reply.status, reply.location, errors[-1] if errors and reply.code >= 400 else None)


def _read(chunks: Iterator[bytes]) -> None:
    left = _MOST_READ - len(next(chunks, b""))
    with turns.at_most(_LONGEST_READ):
        while left > 0 and (chunk := next(chunks, None)) is not None:
            left -= len(chunk)


def follow(app: Callable[..., Any], path: str, **extra: Any) -> PageReply:
    """As ``get``, but an answer that only leads to another page of the site is followed, a few times."""
    reply = get(app, path, **extra)
    for _ in range(_MOST_REDIRECTS):
        target = urlsplit(reply.location)
        host = target.netloc or extra.get("HTTP_HOST", "")
        if reply.code not in _REDIRECTS or not _is_ours(host, extra) or not target.path.startswith("/"):
            break
        extra = {**extra, "HTTP_HOST": host}
        reply = get(app, f"{target.path}?{target.query}", **extra)
    return reply


def _is_ours(host: str, extra: Mapping[str, Any]) -> bool:
    """Another host may be another site. The one that Django itself sends every client to is this one."""
    from django.conf import settings

    asked = str(extra.get("HTTP_HOST", ""))
    return host == asked or bool(settings.PREPEND_WWW and host == f"www.{asked}")


@contextlib.contextmanager
def _noting_exceptions() -> Iterator[list[BaseException]]:
    """What Django turns into answers meanwhile: its handlers look this function up by its name."""
    from django.core.handlers import exception

    errors: list[BaseException] = []
    usual = exception.response_for_exception

    def noting(request: Any, error: BaseException) -> Any:
        errors.append(error)
        return usual(request, error)  # type: ignore[arg-type]

    exception.response_for_exception = noting  # type: ignore[assignment]
    try:
        yield errors
    finally:
        exception.response_for_exception = usual


def _environ(path: str) -> dict[str, Any]:
    from django.conf import settings

    target = path
    path, _question, query = path.partition("?")
    hosts = [host.lstrip(".") for host in settings.ALLOWED_HOSTS if host != "*"]
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),  # PEP 3333
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": hosts[0] if hosts else "localhost",
        "HTTP_ACCEPT": "text/html, */*;q=0.8",
        "HTTP_USER_AGENT": "djworker warm-up",
        "RAW_URI": target,
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "",
        "SERVER_SOFTWARE": "djworker",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https" if settings.SECURE_SSL_REDIRECT else "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }

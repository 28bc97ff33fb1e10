"""The smallest WSGI application: what remains of a request's cost is the server's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

BODY = b"Hello, World!"
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer 13 bytes to everything (PEP 3333)."""
    start_response("200 OK", list(HEADERS))
    return [BODY]

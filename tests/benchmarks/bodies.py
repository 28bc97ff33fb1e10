"""Large bodies, without a project's code around them: what they cost is the server's, and Django's where the path says so.

``/?mib=4`` is answered with a HttpResponse of 4 MiB. What is sent to ``/read`` is read in pieces; a form that is sent to
``/form`` is read by Django, which keeps its file in the folder for temporary files. Both are answered with the bytes they had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse

#: Bytes: what Django's upload handlers read at once.
PIECE = 65_536
BINARY = "application/octet-stream"
MIB = bytes(1 << 20)
PATHS = {f"mib={count}": MIB * count for count in (1, 4, 16)}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer by the path (PEP 3333)."""
    answer = HttpResponse(_content(environ), content_type=BINARY)
    fields = [*answer.items(), ("Content-Length", str(len(answer.content)))]
    start_response("200 OK", fields)
    return answer


def _content(environ: dict[str, Any]) -> bytes:
    if environ["PATH_INFO"] == "/form":
        return b"%d" % sum(_sizes(WSGIRequest(environ)))
    if environ["PATH_INFO"] == "/read":
        return b"%d" % sum(map(len, iter(lambda: environ["wsgi.input"].read(PIECE), b"")))
    return PATHS[environ["QUERY_STRING"]]


def _sizes(request: WSGIRequest) -> Iterable[int]:
    for file in request.FILES.values():
        yield file.size
        file.close()

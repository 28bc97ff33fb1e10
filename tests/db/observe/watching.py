"""The log, as a list; a request through Django's own handler; a look at a chosen moment."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from djworker.log.format import EVENT, FIELDS


class Seen(logging.Handler):
    """Events of `djworker.db`, and messages of any other logger."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.records.append(record)

    def of(self, event: str) -> list[dict[str, Any]]:
        """Fields of the events with this name."""
        return [getattr(record, FIELDS) for record in self.records if getattr(record, EVENT, "") == event]

    def messages(self, event: str) -> list[str]:
        """Their texts."""
        return [record.getMessage() for record in self.records if getattr(record, EVENT, "") == event]


@contextmanager
def listening(name: str = "djworker.db", level: int = logging.INFO) -> Iterator[Seen]:
    """What this logger is told meanwhile."""
    logger, seen = logging.getLogger(name), Seen()
    before = logger.level
    logger.addHandler(seen)
    logger.setLevel(level)
    try:
        yield seen
    finally:
        logger.removeHandler(seen)
        logger.setLevel(before)


def look(later: float = 0.0) -> None:
    """The pool_watch of the default alias looks, so many seconds from now."""
    from django.db import connection

    connection.leased_pool.pool_watch.look(time.monotonic() + later)


def get(path: str, urlconf: str, **settings: Any) -> tuple[str, bytes]:
    """GET through Django's handler, as a worker does; status and body."""
    from django.core.handlers.wsgi import WSGIHandler
    from django.test import override_settings

    with override_settings(ROOT_URLCONF=urlconf, ALLOWED_HOSTS=["*"], **settings):
        return call(WSGIHandler(), path)


def call(app: Any, path: str) -> tuple[str, bytes]:
    """One request."""
    status: list[str] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path.encode().decode("latin-1"),
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "SERVER_NAME": "shop",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
    }
    response = app(environ, lambda line, _headers: status.append(line))
    try:
        return status[0], b"".join(response)
    finally:
        response.close()

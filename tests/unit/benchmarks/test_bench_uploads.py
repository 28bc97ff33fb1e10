"""The load of large uploads: a fixed number of them, and answers that say how much has come."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

from tests.benchmarks import uploads


class Quiet(WSGIRequestHandler):
    """No line for each request."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer with the size of what has come."""
    body = b"%d" % len(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@pytest.fixture
def url() -> Iterator[str]:
    """A server of it."""
    with make_server("127.0.0.1", 0, application, WSGIServer, Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_each_upload_is_waited_for_and_counted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "SIZE", 2 << 20)
    load = uploads.run(f"{url}/read", 2, 3)
    assert (load.requests, load.errors) == (6, 0)
    assert load.rate == load.requests / load.seconds
    assert 0 < load.p50 <= load.p99 <= load.seconds


def test_an_upload_that_is_not_answered_with_its_size_is_an_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "SIZE", 1 << 20)
    monkeypatch.setattr(uploads, "_answer", lambda sock: b"0")
    load = uploads.run(f"{url}/read", 1, 2)
    assert (load.requests, load.errors) == (0, 2)

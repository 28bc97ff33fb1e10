"""The process that forks the servers of these tests: what the other tests lean on must hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.http.conftest import ForkedServer, Served


def test_after_a_server_that_did_not_end_the_next_one_serves(serve: Callable[..., Served]) -> None:
    hanging = ForkedServer({})
    with hanging.stdin, hanging.stdout, hanging.stderr:
        assert hanging.stdout.readline()
        with pytest.raises(TimeoutError):
            hanging.wait(0.01)
    server = serve()
    assert server.process.pid > 0
    with server.connect() as client:
        assert client.get("/hello").status == 200

"""Code that reaches for the library's connection, as far as reading it tells."""

from __future__ import annotations

import pytest

from djworker.db.middleware import pinning, reaches_through


@pytest.mark.parametrize(
    "code",
    [
        "connection.connection.set_isolation_level(0)",
        "register_hstore(connection.connection)",
        "raw = db.connection.connection",
        "connections['default'].connection.autocommit = True",
        "if connection.connection == other: pass",
    ],
)
def test_what_pins(code: str) -> None:
    assert reaches_through(f"    def __call__(self, request):\n        {code}\n")


@pytest.mark.parametrize(
    "code",
    [
        "connection.cursor().execute('SELECT 1')",
        "connection.connection.info.server_version",
        "if connection.connection is not None: connection.close()",
        "log('connection.connection')  # connection.connection",
        "request.connection",
        "connections['default'].close()",
    ],
)
def test_what_does_not(code: str) -> None:
    assert not reaches_through(f"    def __call__(self, request):\n        {code}\n")


def test_middleware_that_cannot_be_read_is_passed_over() -> None:
    assert list(pinning(["nowhere.Middleware", "sys.intern", "django.middleware.common.CommonMiddleware"])) == []

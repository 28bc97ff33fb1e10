"""Code that reaches for the library's connection, as far as reading it tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from djworker.db.checks.middleware import pinning, reaches_through


@pytest.mark.parametrize(
    "code",
    [
        "connection.connection.set_isolation_level(0)",
        "register_hstore(connection.connection)",
        "raw = db.connection.connection",
        "connections['default'].connection.isolation_level = 3",
        "if connection.connection == other: pass",
    ],
)
def test_what_reaches_through_pins(code: str) -> None:
    assert reaches_through(f"    def __call__(self, request):\n        {code}\n")


@pytest.mark.parametrize(
    "code",
    [
        "connection.cursor().execute('SELECT 1')",
        "connection.connection.info.server_version",
        "connection.connection.autocommit = True",
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


PIECES = """
def make():
    def middleware(get_response):
        text = '''
at the margin'''
        return get_response
    return middleware

inner = make()
anonymous = (
    lambda get_response:
    get_response)
"""


@pytest.mark.parametrize("name", ["inner", "anonymous"])
def test_source_that_does_not_stand_alone_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "pieces.py").write_text(PIECES)
    monkeypatch.syspath_prepend(tmp_path)
    assert list(pinning([f"pieces.{name}"])) == []

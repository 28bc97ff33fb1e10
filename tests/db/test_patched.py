"""The interpreters that database tests run in: what the other tests lean on must hold."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.db.patched import PatchedInterpreter

CLIENT_LIBRARIES = {"psycopg", "psycopg2", "MySQLdb", "pymysql"}


@pytest.fixture(params=[False, True], ids=["forked", "fresh"])
def there(request: pytest.FixtureRequest) -> Iterator[PatchedInterpreter]:
    """An interpreter of either kind."""
    interpreter = PatchedInterpreter(fresh=request.param)
    yield interpreter
    interpreter.close()
    assert not interpreter.alive


def assert_untouched(*, imported: bool) -> None:
    """In an interpreter in which no test has run."""
    from gevent import monkey

    assert monkey.is_module_patched("socket")
    assert not CLIENT_LIBRARIES & set(sys.modules)
    assert ("django.db" in sys.modules) == imported
    if imported:
        from django.conf import settings

        assert not settings.configured
    assert len(sys._current_frames()) == 1, "no other thread"


def test_nothing_is_chosen_before_the_first_test(there: PatchedInterpreter, request: pytest.FixtureRequest) -> None:
    forked = request.node.callspec.id == "forked"
    assert not there.call(__name__, "assert_untouched", {"imported": forked})


def test_the_way_an_interpreter_ended_is_told(there: PatchedInterpreter) -> None:
    assert there.alive
    assert there.call("os", "_exit", {"status": 3}) == "the patched interpreter died: status 3"
    assert not there.alive


def test_a_signal_that_ended_an_interpreter_is_told(there: PatchedInterpreter) -> None:
    assert there.call(__name__, "end_by_signal", {}) == "the patched interpreter died: status -9"


def end_by_signal() -> None:
    os.kill(os.getpid(), 9)


def assert_warned() -> None:
    """What is an error there, as it is here."""
    with pytest.raises(UserWarning):
        __import__("warnings").warn("of something", UserWarning, stacklevel=1)
    open(os.devnull)  # noqa: SIM115, PTH123 - nobody closes it


def test_warnings_and_what_finalizers_see_are_failures(there: PatchedInterpreter) -> None:
    trouble = there.call(__name__, "assert_warned", {})
    assert "ResourceWarning: unclosed file" in trouble
    assert "UserWarning" not in trouble

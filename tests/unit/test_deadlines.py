"""What views say of their own time: decorators and functions, with a clock in the place of a connection's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from djworker import deadlines
from djworker.deadlines import RequestTimeout, deadline, extend_deadline, no_deadline, remaining


class Clock:
    """A request that began just now."""

    limit = 10.0

    def time_left(self) -> float:
        return self.limit

    def allow(self, seconds: float) -> None:
        self.limit = seconds

    def extend(self, seconds: float) -> None:
        self.limit += seconds


@pytest.fixture
def clock() -> Iterator[Clock]:
    """That of the calling request."""
    clock = Clock()
    deadlines.found_by(lambda: clock)
    yield clock
    deadlines.found_by(lambda: None)


def view(*arguments: Any, **named: Any) -> Any:
    """A view."""
    return arguments, named, remaining()


async def coroutine(*arguments: Any) -> Any:
    """An async one."""
    return arguments, remaining()


class ClassBased:
    """As Django's View."""

    def dispatch(self, request: str) -> Any:
        return request, remaining()


def test_outside_of_a_request_nothing_happens() -> None:
    assert deadline(5)(view)(1, two=2) == ((1,), {"two": 2}, None)
    extend_deadline(5)
    assert remaining() is None


def test_a_decorated_view_has_its_own_time(clock: Clock) -> None:
    assert deadline(5)(view)(1, two=2) == ((1,), {"two": 2}, 5)
    assert deadline(5)(view).__name__ == "view"
    assert no_deadline(view)() == ((), {}, None)


def test_the_decorator_next_to_the_view_holds(clock: Clock) -> None:
    assert deadline(5)(no_deadline(view))()[-1] is None
    assert no_deadline(deadline(5)(view))()[-1] == 5
    assert deadline(5)(deadline(7)(view))()[-1] == 7


def test_a_coroutine_function_stays_one(clock: Clock) -> None:
    decorated = deadline(5)(coroutine)
    assert asyncio.run(decorated(1)) == ((1,), 5)
    assert asyncio.run(no_deadline(coroutine)()) == ((), None)


def test_a_class_is_decorated_where_it_dispatches(clock: Clock) -> None:
    decorated = deadline(5)(type("Decorated", (ClassBased,), {}))
    assert decorated().dispatch("request") == ("request", 5)
    assert clock.limit == 5
    assert ClassBased().dispatch("request") == ("request", 5), "the class below is as it was"
    clock.limit = 8
    assert ClassBased().dispatch("request") == ("request", 8)


def test_a_class_has_its_own_time_before_that_of_its_base(clock: Clock) -> None:
    base = deadline(5)(type("Base", (ClassBased,), {}))
    longer = deadline(60)(type("Longer", (base,), {}))
    free = no_deadline(type("Free", (longer,), {}))
    assert longer().dispatch("request") == ("request", 60)
    assert free().dispatch("request") == ("request", None)
    assert base().dispatch("request") == type("Plain", (base,), {})().dispatch("request") == ("request", 5)


def test_a_deadline_can_be_moved(clock: Clock) -> None:
    extend_deadline(5)
    assert remaining() == 15
    extend_deadline(-3.5)
    assert remaining() == 11.5
    clock.limit = -1
    assert remaining() == 0


@pytest.mark.parametrize("seconds", [0, -1, True, "5", None, float("inf"), float("nan")])
def test_a_deadline_is_a_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(ValueError, match="a deadline is a number of seconds above 0, not "):
        deadline(seconds)


@pytest.mark.parametrize("seconds", ["5", None, float("inf"), float("nan")])
def test_more_time_is_a_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(ValueError, match="a deadline is a number of seconds, not "):
        extend_deadline(seconds)


@pytest.mark.parametrize("size", [400, 5000])
def test_seconds_too_many_to_count_are_named(size: int) -> None:
    for use in (deadline, extend_deadline):
        with pytest.raises(ValueError, match=rf"a deadline of about 10\*\*{size} seconds is too long.*@no_deadline"):
            use(10**size)
    with pytest.raises(ValueError, match=rf"about -10\*\*{size} seconds"):
        extend_deadline(-(10**size))


@pytest.mark.parametrize(
    "use, text",
    [
        (lambda: deadline(view), "@deadline needs its seconds"),  # type: ignore[arg-type]
        (lambda: deadline(5)(int), "int has no dispatch"),
        (lambda: no_deadline("view"), "'view' is no view"),  # type: ignore[type-var]
    ],
)
def test_what_is_no_view_is_refused(use: Callable[[], object], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        use()


def test_views_that_catch_exceptions_do_not_catch_it() -> None:
    assert not issubclass(RequestTimeout, Exception)

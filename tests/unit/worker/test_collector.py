"""What a project asks of the garbage collector while it loads is done in the worker, and not before."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

from djworker.worker import collector


@pytest.fixture(autouse=True)
def _collecting() -> Iterator[None]:
    gc.enable()
    yield
    collector.release()
    gc.enable()


def nothing() -> None:
    """Leave it as it is."""


def disable() -> None:
    gc.disable()


def disable_and_enable() -> None:
    gc.disable()
    assert not gc.isenabled()
    gc.enable()


def as_careful_libraries_do() -> None:
    was = gc.isenabled()
    gc.disable()
    if was:
        gc.enable()


@pytest.mark.parametrize(
    "project, collects",
    [
        (nothing, True),
        (disable, False),
        (disable_and_enable, True),
        (as_careful_libraries_do, True),
    ],
    ids=["nothing", "disable", "disable and enable", "as it was"],
)
def test_what_the_project_asks_for_is_done_when_it_is_loaded(project: Callable[[], None], *, collects: bool) -> None:
    collector.hold()
    project()
    collected: list[str] = []
    gc.callbacks.append(lambda phase, _info: collected.append(phase))
    try:
        kept = [[number] for number in range(5000)]
        assert not collected, "nothing is collected while a project loads"
    finally:
        del gc.callbacks[-1], kept
    collector.release()
    assert gc.isenabled() is collects


def test_what_was_disabled_before_the_project_stays_disabled() -> None:
    """An agent of the interpreter has loaded the settings by then."""
    gc.disable()
    collector.hold()
    collector.release()
    assert not gc.isenabled()


def test_names_that_were_imported_while_loading_work_afterwards() -> None:
    collector.hold()
    from gc import disable, enable, isenabled

    collector.release()
    disable()
    assert not isenabled()
    assert not gc.isenabled()
    enable()
    assert isenabled()
    assert gc.isenabled()
